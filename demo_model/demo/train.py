"""Trains the demo model from scratch on the CPU.

    python -m demo_model.demo.train --out runs/demo.pt --total-tokens 40e6 [--minutes 55]
    python -m demo_model.demo.train --out runs/demo.pt --resume runs/demo.pt [--minutes 55]

The first line begins a run: it trains the tokenizer, which the checkpoint then holds. `--minutes` pauses it, as SIGTERM
and Ctrl-C do, and the second line goes on with the next step. A third way, `--resume` with `--restart-schedule` and
`--total-tokens`, begins a new schedule from what was learnt, in the stage that `--stage` names. Set OMP_NUM_THREADS to
the number of cores that nobody else uses; `nice -n 19` lets others go first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from demo_model.demo.dialogues import groups
from demo_model.demo.model import DemoModel, Size
from demo_model.demo.optimizer import MuonAndAdam
from demo_model.demo.stages import STAGES, StagedPacks, groups_of
from demo_model.demo.tokenizer import Encoder, train_tokenizer
from demo_model.packing import Pack, Packs
from demo_model.training import Limits, Schedule, Trainer, train

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains the embedded demo model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint that is written")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="go on from this checkpoint")
    parser.add_argument("--restart-schedule", action="store_true", help="with --resume: a new schedule and new data")
    parser.add_argument("--total-tokens", type=float, help="length of the schedule, in computed tokens")
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help="this stage alone; default: all")
    parser.add_argument("--peak", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--decay-from", type=float, default=0.4, help="share of the schedule after which it falls")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="pause after so many")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)
    parser.add_argument("--held-out", type=int, default=4, help="steps of held-out data judged at each checkpoint")
    parser.add_argument("--layers", type=int, default=Size.layers)
    parser.add_argument("--dtype", choices=TYPES, default="bf16", help="fp32 where the CPU is slow at bf16")
    parsed = parser.parse_args()
    if parsed.total_tokens is None and (parsed.resume is None or parsed.restart_schedule):
        parser.error("--total-tokens is needed where a schedule begins")
    return parsed


def begun(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run: the checkpoint's where there is one, else a new tokenizer and the sizes asked for."""
    if args.resume:
        settings: dict[str, Any] = torch.load(args.resume, weights_only=True)["settings"]
        return settings
    size = Size(layers=args.layers)
    tokenizer = train_tokenizer(groups(args.seed), size.vocabulary)
    return {"size": size.as_dict(), "tokenizer": tokenizer.to_str(), "stage": args.stage}


def trainer_of(args: argparse.Namespace) -> Trainer[Pack]:
    """Everything put together, at the checkpoint's place if one is named."""
    torch.manual_seed(args.seed)
    settings = begun(args)
    if args.restart_schedule:
        settings["stage"] = args.stage
    model = DemoModel(Size(**settings["size"]), TYPES[args.dtype])
    encode = Encoder(Tokenizer.from_str(settings["tokenizer"]))
    stages = [stage for stage in STAGES if settings["stage"] in (None, stage.name)]
    total = int(args.total_tokens or 0)
    data = StagedPacks(encode, seed=args.seed, total=total, stages=stages)
    unseen = Packs(groups_of(STAGES[1], held_out=True), encode, seed=0, rows=STAGES[1].rows)
    held_out = [unseen.take() for _ in range(args.held_out)]
    schedule = Schedule(total, args.peak, decay_from=args.decay_from)
    trainer = Trainer(model, model.loss, data, schedule, settings, held_out, MuonAndAdam(model, args.peak))
    if args.resume:
        trainer.resume(args.resume, restart_schedule=args.restart_schedule)
    return trainer


def main() -> None:
    args = arguments()
    train(trainer_of(args), args.out, Limits(args.minutes, args.checkpoint_minutes))


if __name__ == "__main__":
    main()
