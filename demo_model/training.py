"""The training loop: a schedule of tokens, checkpoints that resume exactly, progress lines.

A run may be cut into any number of pieces: the schedule counts tokens, not time, and a checkpoint holds the parameters,
the optimizer, the random state and the place in the data. So a run that was stopped and resumed takes the very steps of
one that was not (as far as the products are computed by the same number of threads).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn


class Batch(Protocol):
    """One step's data, as far as the loop counts it."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def targets(self) -> list[int]: ...

    @property
    def unshared_rows(self) -> int: ...


B = TypeVar("B", bound=Batch)


class Data(Protocol[B]):
    """An endless stream of steps that knows its place."""

    def take(self) -> B: ...

    def state(self) -> dict[str, int]: ...

    def restore(self, state: dict[str, int]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """The learning rate over `total` tokens: up to `peak` in the first `warm_up` of them, then constant, and from
    `decay_from` (a share of the total) in a straight line down to `floor` times `peak`."""

    total: int
    peak: float = 1e-3
    warm_up: int = 60_000
    decay_from: float = 0.4
    floor: float = 0.01

    def rate(self, tokens: int) -> float:
        """The rate of the step that comes after so many tokens."""
        done = tokens / self.total
        left = 1.0 if done <= self.decay_from else (1 - done) / (1 - self.decay_from)
        return self.peak * min(1.0, (tokens + 2048) / (self.warm_up + 2048)) * max(self.floor, left)


@dataclass(frozen=True)
class Limits:
    """When this run pauses, and how often it saves and reports."""

    minutes: float = float("inf")
    checkpoint_minutes: float = 5.0
    report_steps: int = 10
    clip: float = 1.0


@dataclass
class Progress:
    """What a checkpoint counts. `smoothed` is the loss, a running mean over about 50 steps."""

    step: int = 0
    tokens: int = 0
    schedule_tokens: int = 0
    """Tokens since the schedule began; it may have been restarted."""
    unshared_tokens: int = 0
    learnt_tokens: int = 0
    smoothed: float | None = None

    def add(self, batch: Batch, loss: float) -> None:
        self.step += 1
        self.tokens += len(batch.ids)
        self.schedule_tokens += len(batch.ids)
        self.unshared_tokens += batch.unshared_rows
        self.learnt_tokens += len(batch.targets)
        self.smoothed = loss if self.smoothed is None else 0.98 * self.smoothed + 0.02 * loss


class Trainer(Generic[B]):
    """Fits the parameters of `model` by `loss` of batches. `settings` goes into each checkpoint as it is."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[B], Tensor],
        data: Data[B],
        schedule: Schedule,
        settings: Mapping[str, Any],
        held_out: list[B] | None = None,
    ) -> None:
        self.model, self.loss, self.data, self.schedule = model, loss, data, schedule
        self.settings, self.held_out = dict(settings), held_out or []
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Decay would pull the adapter to the base model; few steps want a short memory of squares.
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=schedule.peak, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self.progress = Progress()

    def run(self, checkpoint: Path, limits: Limits, say: Callable[[str], None] = print) -> bool:
        """Trains until the schedule ends (True), or until the minutes are over or SIGTERM or SIGINT came (False).

        In each case the checkpoint is saved.
        """
        clock = _Clock(limits, self.progress)
        with _asked_to_stop() as stopping:
            while self.progress.schedule_tokens < self.schedule.total and not clock.over() and not stopping():
                self.step(limits.clip)
                if self.progress.step % limits.report_steps == 0:
                    say(clock.line(self.progress, self.schedule))
                if clock.save_now():
                    self._save_and_say(checkpoint, say)
        self._save_and_say(checkpoint, say)
        return self.progress.schedule_tokens >= self.schedule.total

    def step(self, clip: float) -> float:
        """One update; its loss."""
        batch = self.data.take()
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.progress.schedule_tokens)
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        self.progress.add(batch, loss.item())
        return loss.item()

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """The mean loss of the batches that are never trained on."""
        return sum(self.loss(batch).item() for batch in self.held_out) / len(self.held_out)

    def _save_and_say(self, path: Path, say: Callable[[str], None]) -> None:
        self.save(path)
        note = f", held-out loss {self.held_out_loss():.4f}" if self.held_out else ""
        say(f"step {self.progress.step}: saved {path}{note}")

    def save(self, path: Path) -> None:
        """Writes the checkpoint, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(self._state(), part)
        os.replace(part, path)

    def _state(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "data": self.data.state(),
            "progress": asdict(self.progress),
            "schedule": asdict(self.schedule),
        }

    def resume(self, path: Path, *, restart_schedule: bool = False) -> None:
        """Goes on from a checkpoint.

        With `restart_schedule` only parameters, optimizer and counts come from it: the trainer's own schedule begins,
        and the data from their start, which may be other data by now.
        """
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        if restart_schedule:
            self.progress = replace(self.progress, schedule_tokens=0, smoothed=None)
            return
        self.schedule = Schedule(**state["schedule"])
        torch.set_rng_state(state["random"])
        self.data.restore(state["data"])


class _Clock:
    """The time of this run, and what it says of the rest."""

    def __init__(self, limits: Limits, progress: Progress) -> None:
        self._limits, self._started = limits, time.monotonic()
        self._saved = self._lapped = self._started
        self._first, self._lap, self._lap_unshared = progress.tokens, progress.tokens, progress.unshared_tokens

    def over(self) -> bool:
        return time.monotonic() - self._started >= self._limits.minutes * 60

    def save_now(self) -> bool:
        due = time.monotonic() - self._saved >= self._limits.checkpoint_minutes * 60
        if due:
            self._saved = time.monotonic()
        return due

    def line(self, progress: Progress, schedule: Schedule) -> str:
        """Tokens per second are those since the line before: computed, and in brackets as if nothing were shared."""
        now = time.monotonic()
        seconds = max(now - self._lapped, 1e-9)
        speed = (progress.tokens - self._lap) / seconds
        unshared = (progress.unshared_tokens - self._lap_unshared) / seconds
        overall = (progress.tokens - self._first) / (now - self._started)
        left = max(schedule.total - progress.schedule_tokens, 0) / max(overall, 1e-9) / 60
        self._lapped, self._lap, self._lap_unshared = now, progress.tokens, progress.unshared_tokens
        return (
            f"{(now - self._started) / 60:.1f} min, step {progress.step}, {progress.schedule_tokens / 1e6:.2f} of "
            f"{schedule.total / 1e6:.2f} M tokens, loss {progress.smoothed:.4f}, "
            f"rate {schedule.rate(progress.schedule_tokens):.1e}, {speed:.0f} tokens/s ({unshared:.0f}), "
            f"{left:.0f} min left"
        )


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGINT came meanwhile; the step in progress is finished first."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
