"""Dialogues that share a beginning, as rows of a training step.

Most tokens of a dialogue with tools are its system turn. So a sample is a *group*: one prefix, without loss, and
branches, each of which sees the prefix and itself. A step is a *pack* of groups, their rows one after another:
prefix, branch, branch, prefix, branch … Every branch counts its positions from the end of its prefix.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Protocol

Segments = Sequence[tuple[str, bool]]
"""Pieces of a dialogue's text, and whether the model learns to write them."""
Encode = Callable[[str], list[int]]
"""Text to token ids; special tokens in the text become special tokens."""


class DialogueGroup(Protocol):
    """What a generator of dialogues yields: the text that all branches begin with, and how each goes on."""

    @property
    def prefix(self) -> str: ...

    @property
    def branches(self) -> Sequence[Segments]: ...


Groups = Callable[[int], Iterator[DialogueGroup]]
"""A seed to an endless stream of groups, the same each time."""


@dataclass(frozen=True)
class Branch:
    """Token ids of one dialogue, and which of them are learnt."""

    ids: list[int]
    learn: list[bool]


@dataclass(frozen=True)
class Sample:
    """A group as token ids. Nothing of the prefix is learnt, and no branch is empty."""

    prefix: list[int]
    branches: list[Branch]

    @property
    def rows(self) -> int:
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)


@dataclass(frozen=True)
class Span:
    """Rows of a pack that follow each other in one text, and the prefix before them. Half-open ranges of rows."""

    start: int
    end: int
    prefix: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Pack:
    """One step. `sources` are the rows whose output predicts `targets`; a prefix's last row may do so repeatedly."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    dialogues: int = 0
    unshared_rows: int = 0
    """Rows that the same dialogues would have without a shared prefix."""


def encode_dialogue(segments: Segments, encode: Encode) -> Branch:
    """Token ids as they come about when the model is used.

    There, the prompt is tokenised in one run and the answer is generated behind it; so a run of text is cut only where
    an answer begins, not at every border between segments.
    """
    ids: list[int] = []
    learn: list[bool] = []
    for text, learnt in _runs(segments):
        piece = encode(text)
        ids += piece
        learn += [learnt] * len(piece)
    return Branch(ids, learn)


def _runs(segments: Segments) -> Iterator[tuple[str, bool]]:
    """Neighbours of the same kind in one piece."""
    text, learnt = "", False
    for piece, learn in segments:
        if learn != learnt:
            yield text, learnt
            text, learnt = "", learn
        text += piece
    yield text, learnt


def encode_group(group: DialogueGroup, encode: Encode) -> Sample:
    """The sample of a group. What is shared is decided by the ids: a token may reach over the prefix's end."""
    dialogues = [encode_dialogue([(group.prefix, False), *segments], encode) for segments in group.branches]
    shared = _shared_length(dialogues)
    branches = [Branch(dialogue.ids[shared:], dialogue.learn[shared:]) for dialogue in dialogues]
    return Sample(dialogues[0].ids[:shared], branches)


def _shared_length(dialogues: Sequence[Branch]) -> int:
    """Tokens that all begin with and none learns; every dialogue keeps at least one of its own."""
    columns = zip(*(zip(dialogue.ids, dialogue.learn, strict=True) for dialogue in dialogues), strict=False)
    same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1 and not column[0][1], columns))
    return min(same, *(len(dialogue.ids) - 1 for dialogue in dialogues))


def pack(samples: Iterable[Sample]) -> Pack:
    """Lays the samples out one after another."""
    whole = Pack()
    dialogues = unshared = 0
    for sample in samples:
        prefix = _append(whole, sample.prefix, Span(len(whole.ids), len(whole.ids) + len(sample.prefix)))
        for branch in sample.branches:
            _append_branch(whole, branch, prefix)
        dialogues += len(sample.branches)
        unshared += sample.rows + (len(sample.branches) - 1) * len(sample.prefix)
    return replace(whole, dialogues=dialogues, unshared_rows=unshared)


def _append_branch(whole: Pack, branch: Branch, prefix: Span) -> None:
    start = len(whole.ids)
    _append(whole, branch.ids, Span(start, start + len(branch.ids), (prefix.start, prefix.end)))
    for index, (token, learnt) in enumerate(zip(branch.ids, branch.learn, strict=True)):
        if learnt:
            whole.sources.append(start + index - 1 if index else prefix.end - 1)
            whole.targets.append(token)


def _append(whole: Pack, ids: list[int], span: Span) -> Span:
    if ids:
        before = span.prefix[1] - span.prefix[0]
        whole.ids.extend(ids)
        whole.positions.extend(range(before, before + len(ids)))
        whole.spans.append(span)
    return span


def fit(sample: Sample, rows: int) -> Sample | None:
    """The sample with as many of its branches as go into `rows`; None if not even one does."""
    branches: list[Branch] = []
    left = rows - len(sample.prefix)
    for branch in sample.branches:
        if len(branch.ids) <= left:
            branches.append(branch)
            left -= len(branch.ids)
    return replace(sample, branches=branches) if branches else None


def bins(samples: Iterable[Sample], rows: int) -> list[list[Sample]]:
    """Samples into as few packs of at most `rows` as first-fit-decreasing finds."""
    filled: list[tuple[int, list[Sample]]] = []
    for sample in sorted(samples, key=lambda sample: -sample.rows):
        for index, (used, inside) in enumerate(filled):
            if used + sample.rows <= rows:
                filled[index] = (used + sample.rows, [*inside, sample])
                break
        else:
            filled.append((sample.rows, [sample]))
    return [inside for _, inside in filled]


class Packs:
    """An endless stream of packs whose place is two numbers, so that a resumed run goes on with the very next one.

    Groups are drawn `window` at a time, packed, and the packs shuffled by the seed and the window's number.
    """

    def __init__(
        self,
        groups: Callable[[int], Iterator[DialogueGroup]],
        encode: Encode,
        *,
        seed: int,
        rows: int,
        window: int = 48,
    ) -> None:
        self._groups, self._encode = groups, encode
        self._seed, self._rows, self._window = seed, rows, window
        self._windows = self._taken = 0
        self._source: Iterator[DialogueGroup] | None = None
        self._ready: list[list[Sample]] = []

    def state(self) -> dict[str, int]:
        """The place in the stream: the seed, finished windows, and packs taken from the one that is open."""
        return {"seed": self._seed, "windows": self._windows, "taken": self._taken}

    def restore(self, state: dict[str, int]) -> None:
        """Goes to that place. The groups before it are generated again, not tokenised."""
        self._seed, self._windows, self._taken = state["seed"], state["windows"], 0
        self._source, self._ready = self._opened(), []
        for _ in range(state["taken"]):
            self.take()

    def take(self) -> Pack:
        """The next step's rows."""
        if not self._ready:
            self._open_window()
        self._taken += 1
        samples = self._ready.pop()
        if not self._ready:
            self._windows, self._taken = self._windows + 1, 0
        return pack(samples)

    def _open_window(self) -> None:
        if self._source is None:
            self._source = self._opened()
        drawn = (encode_group(group, self._encode) for group in islice(self._source, self._window))
        self._ready = bins([fitted for sample in drawn if (fitted := fit(sample, self._rows))], self._rows)
        if not self._ready:
            raise ValueError(f"no dialogue fits into {self._rows} tokens: raise --rows")
        random.Random(f"{self._seed} {self._windows}").shuffle(self._ready)

    def _opened(self) -> Iterator[DialogueGroup]:
        return islice(self._groups(self._seed), self._windows * self._window, None)
