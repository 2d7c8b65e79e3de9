"""Trains the LoRA adapter of SmolLM2-135M-Instruct on the CPU.

    python -m demo_model.smollm2.train --out runs/smollm2.pt --total-tokens 8e6 [--minutes 60]
    python -m demo_model.smollm2.train --out runs/smollm2.pt --resume runs/smollm2.pt [--minutes 60]
    python -m demo_model.smollm2.train --out runs/next.pt --resume runs/smollm2.pt --restart-schedule --total-tokens 4e6

The first line begins a run; `--minutes` pauses it, as SIGTERM and Ctrl-C do, and the second line goes on with the next
step. The third begins a new schedule, with the data as they are now, from the parameters that were reached. Set
OMP_NUM_THREADS to the number of cores that nobody else uses; `nice -n 19` lets others go first.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from demo_model.packing import Pack, Packs
from demo_model.smollm2.base import SHA256, find_base
from demo_model.smollm2.model import Lora, SmolLM2
from demo_model.smollm2.tokenizer import Encoder
from demo_model.training import Limits, Schedule, Trainer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains the LoRA adapter of SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint that is written")
    parser.add_argument("--base", type=Path, help="the base GGUF; default: where nbllama keeps it")
    parser.add_argument("--data", default="demo_model.dialogues", help="module with groups(seed, held_out=…)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="go on from this checkpoint")
    parser.add_argument("--restart-schedule", action="store_true", help="with --resume: a new schedule and new data")
    parser.add_argument("--total-tokens", type=float, help="length of the schedule, in computed tokens")
    parser.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--decay-from", type=float, default=0.4, help="share of the schedule after which it falls")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="pause after so many")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)
    parser.add_argument("--rows", type=int, default=2048, help="tokens of a step")
    parser.add_argument("--held-out", type=int, default=4, help="steps of held-out data judged at each checkpoint")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32.0)
    parser.add_argument("--top", type=int, default=20, help="how many of the 30 layers are adapted, from the top")
    parsed = parser.parse_args()
    if parsed.total_tokens is None and (parsed.resume is None or parsed.restart_schedule):
        parser.error("--total-tokens is needed where a schedule begins")
    return parsed


def lora_of(args: argparse.Namespace) -> Lora:
    """The adapter's size: the checkpoint's, where there is one."""
    if args.resume:
        settings: dict[str, Any] = torch.load(args.resume, weights_only=True)["settings"]
        return Lora(**settings["lora"])
    return Lora(args.rank, args.alpha, args.top)


def trainer_of(args: argparse.Namespace) -> Trainer[Pack]:
    """Everything put together, at the checkpoint's place if one is named."""
    torch.manual_seed(args.seed)
    base, lora = find_base(args.base), lora_of(args)
    model, encode = SmolLM2(base, lora), Encoder(base)
    groups = importlib.import_module(args.data).groups
    data = Packs(groups, encode, seed=args.seed, rows=args.rows)
    unseen = Packs(partial(groups, held_out=True), encode, seed=0, rows=args.rows)
    held_out = [unseen.take() for _ in range(args.held_out)]
    schedule = Schedule(int(args.total_tokens or 0), args.peak, decay_from=args.decay_from)
    settings = {"lora": asdict(lora), "base_sha256": SHA256, "rows": args.rows, "data": args.data}
    trainer = Trainer(model, model.loss, data, schedule, settings, held_out)
    if args.resume:
        trainer.resume(args.resume, restart_schedule=args.restart_schedule)
    return trainer


def main() -> None:
    args = arguments()
    trainer = trainer_of(args)
    done = trainer.run(args.out, Limits(args.minutes, args.checkpoint_minutes), partial(print, flush=True))
    print("the schedule is done" if done else f"paused: go on with --resume {args.out}", flush=True)


if __name__ == "__main__":
    main()
