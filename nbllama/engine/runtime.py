"""What the engine needs of a model: the contract that `LlamaRuntime` and `ScriptedRuntime` fulfil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nbllama.engine.sampling import SamplingSettings


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A LoRA adapter that is laid on a model. `size_bytes` of its file; `base_sha256` of the one file that it fits."""

    name: str
    size_bytes: int
    base_sha256: str


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """Facts about a loaded model. Sizes in bytes, contexts in tokens. `n_cells` is shared by all sequences.

    `device` is what computes, in words; `build` is what the library was built with."""

    name: str
    n_ctx: int
    n_cells: int
    n_batch: int
    n_vocab: int
    n_ctx_train: int
    max_sequences: int
    can_share: bool
    n_params: int
    size_bytes: int
    chat_template: str | None
    bos: str
    eos: str
    device: str = ""
    build: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    adapter: AdapterInfo | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One token of a batch. `wants_logits` asks for the logits after it."""

    token: int
    position: int
    sequence: int
    wants_logits: bool


class Vocabulary(Protocol):
    """Text ⇄ token ids. Safe from any thread at any time: it never waits for a running decode."""

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        """Adds no BOS. With `parse_control` the text of a control token becomes that token, else it stays text."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token; of a control token, its spelling."""

    def is_end_of_generation(self, token: int) -> bool: ...

    def control_tokens(self) -> dict[str, int]:
        """Spelling → id of every control token and user-defined token."""

    @property
    def adds_bos(self) -> int | None:
        """The BOS id that the model wants in front of a prompt, or None."""


class Sampler(Protocol):
    """The random state and settings of one sequence. Lives through a preemption. Engine thread only."""

    def close(self) -> None: ...


class Runtime(Protocol):
    """A model with its key/value cells. All but `vocabulary` and `interrupt` is for the engine thread alone."""

    @property
    def info(self) -> RuntimeInfo: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    def decode(self, rows: Sequence[Row]) -> None:
        """Computes one batch (at most `info.n_batch` rows).

        Raises NoCells (nothing changed), DecodeFailed, or DecodeAborted (some of the rows may lie in the cells).
        """

    def interrupt(self, on: bool) -> None:
        """Any thread. While it is on, a decode ends soon with DecodeAborted where the hardware can be interrupted."""

    def new_sampler(self, settings: SamplingSettings) -> Sampler: ...

    def sample(self, row: int, sampler: Sampler) -> int:
        """Draws the token after the batch's `row`-th row, valid until the next `decode`."""

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """A writable view of shape (n_vocab,), valid until the next `decode`: what a guide masks."""

    def cut(self, sequence: int, length: int) -> bool:
        """Forgets the cells at positions >= `length`. False if this memory cannot be cut there: clear it instead."""

    def copy(self, source: int, destination: int, length: int) -> None:
        """Lets an empty `destination` share the first `length` cells of `source`. Only where `info.can_share`."""

    def clear(self, sequence: int) -> None:
        """Forgets all cells of a sequence."""

    def saved_size(self, sequence: int) -> int:
        """How many bytes `save` would give."""

    def save(self, sequence: int) -> npt.NDArray[np.uint8] | None:
        """A copy of all that was computed for a sequence; None if it cannot be had. The sequence stays as it is."""

    def restore(self, sequence: int, cells: npt.NDArray[np.uint8]) -> bool:
        """Puts a saved copy into a sequence, whose cells are lost. False if there is no room: it is empty then."""

    def close(self) -> None: ...
