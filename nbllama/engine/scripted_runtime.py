"""The contract, by a script: a model that says what a file tells it to. Shipped for tests and lessons.

The file's format is documented in docs/scripted.md. Everything but the choice of tokens is like a real model: cells,
sequences, positions and their misuse are checked, so that the scheduler is tested by whoever uses it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from nbllama.engine.errors import DecodeAborted, DecodeFailed, LoadFailed, NoCells
from nbllama.engine.guide import Guide
from nbllama.engine.runtime import Row, RuntimeInfo, Sampler
from nbllama.engine.sampling import SamplingSettings

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TURN = len(CONTROL_TOKENS) - 1 + 256
# 256 bytes, the control tokens, and as many words as texts bring; a full vocabulary spells the rest in bytes.
N_VOCAB = 65_536
_WORDS = re.compile(r" ?[^\W\d_]{1,12}|\s+|\d|[^\w\s]|_", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a script: the answer to a last turn in which `when` is found, and its faults."""

    when: re.Pattern[str]
    answer: str
    delay_s: float = 0.0
    fail_after: int | None = None
    spelling: Literal["words", "bytes"] = "words"

    def __post_init__(self) -> None:
        if self.spelling not in ("words", "bytes"):
            raise ValueError(f'spelling is {self.spelling!r}, neither "words" nor "bytes"')


@dataclass(frozen=True, slots=True)
class Script:
    """What a scripted model knows. Sizes in tokens."""

    name: str = "scripted"
    rules: tuple[Rule, ...] = ()
    default: str = "I have no line for that."
    n_ctx: int = 8192
    n_cells: int | None = None
    n_batch: int = 512
    max_sequences: int = 16
    prefill_s: float = 0.0
    chat_template: str | None = None

    @classmethod
    def load(cls, path: Path) -> Script:
        """Reads a script. Raises LoadFailed, naming the file and what is wrong in it."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls.parse(data, name=path.stem)
        except (OSError, ValueError, TypeError, KeyError, re.error) as error:
            raise LoadFailed(f"{path} is not a script: {error}") from error

    @classmethod
    def parse(cls, data: dict[str, Any], *, name: str) -> Script:
        fields = {key: value for key, value in data.items() if key != "rules"}
        rules = tuple(
            Rule(
                when=re.compile(rule.get("when", ""), re.DOTALL),
                answer=rule["answer"],
                delay_s=float(rule.get("delay_s", 0.0)),
                fail_after=rule.get("fail_after"),
                spelling=rule.get("spelling", "words"),
            )
            for rule in data.get("rules", [])
        )
        return cls(**{"name": name, **fields, "rules": rules})

    def rule_for(self, prompt: str) -> Rule:
        """The first rule whose pattern is found in the prompt's last turn."""
        turns = prompt.split("<|im_start|>")
        last = next((turn for turn in reversed(turns) if not turn.startswith("assistant")), prompt)
        return next((rule for rule in self.rules if rule.when.search(last)), Rule(re.compile(""), self.default))


class ScriptedVocabulary:
    """Words get ids as they are met. Any thread may ask."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = [bytes([value]) for value in range(256)]
        self._pieces += [text.encode() for text in CONTROL_TOKENS]
        self._ids: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._control = {text: 256 + index for index, text in enumerate(CONTROL_TOKENS)}

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        if parse_control and text in self._control:
            return [self._control[text]]
        return [
            token for match in _WORDS.finditer(text) for token in self._word(match.group().encode(errors="replace"))
        ]

    def piece(self, token: int) -> bytes:
        return self._pieces[token] if token < len(self._pieces) else b""

    def is_end_of_generation(self, token: int) -> bool:
        return token == END_OF_TURN

    def control_tokens(self) -> dict[str, int]:
        return dict(self._control)

    @property
    def adds_bos(self) -> int | None:
        return None

    def _word(self, word: bytes) -> list[int]:
        if len(word) == 1:
            return list(word)
        with self._lock:
            token = self._ids.get(word)
            if token is None and len(self._pieces) < N_VOCAB:
                token = self._ids[word] = len(self._pieces)
                self._pieces.append(word)
        return [token] if token is not None else list(word)


@dataclass(slots=True)
class ScriptedSampler:
    """Where one job is in its answer."""

    rule: Rule | None = None
    answer: list[int] = field(default_factory=list)
    position: int = 0
    n_prompt: int = 0

    def close(self) -> None:
        self.answer = []


class ScriptedRuntime:
    """Cells as lists of tokens, answers from the script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.vocabulary = ScriptedVocabulary()
        self.info = RuntimeInfo(
            name=script.name,
            n_ctx=script.n_ctx,
            n_cells=script.n_cells or script.n_ctx * script.max_sequences,
            n_batch=script.n_batch,
            n_vocab=N_VOCAB,
            n_ctx_train=script.n_ctx,
            max_sequences=script.max_sequences,
            can_share=True,
            n_params=0,
            size_bytes=0,
            chat_template=script.chat_template,
            bos="",
            eos="<|im_end|>",
            device="script",
        )
        self._cells: list[list[int]] = [[] for _ in range(script.max_sequences)]
        self._rows: list[Row] = []
        self._logits: dict[int, npt.NDArray[np.float32]] = {}
        self._doomed: set[int] = set()
        self._interrupted = threading.Event()

    def decode(self, rows: Sequence[Row]) -> None:
        if sum(map(len, self._cells)) + len(rows) > self.info.n_cells:
            raise NoCells("no cell is left")
        if self._doomed & {row.sequence for row in rows}:
            self._doomed.clear()
            raise DecodeFailed(-3)
        for row in rows:
            if row.position != len(self._cells[row.sequence]):
                raise DecodeFailed(-1)
            self._cells[row.sequence].append(row.token)
        self._rows = list(rows)
        self._logits.clear()
        if self._waits(self.script.prefill_s * len(rows) if len(rows) > 1 else 0.0):
            raise DecodeAborted

    def interrupt(self, on: bool) -> None:
        if on:
            self._interrupted.set()
        else:
            self._interrupted.clear()

    def new_sampler(self, settings: SamplingSettings) -> ScriptedSampler:
        return ScriptedSampler()

    def sample(self, row: int, sampler: Sampler, guide: Guide | None = None) -> int:
        if guide is not None:
            guide.mask(self.logits(row))
        state = cast(ScriptedSampler, sampler)
        token = self._scripted(row, state)
        logits = self._logits.get(row)
        if logits is None:
            state.position += 1
            return token
        if logits[token] == -np.inf and len(piece := self.vocabulary.piece(token)) > 1:
            # A guide made before the word was met knows only its bytes.
            state.answer[state.position : state.position + 1] = piece
            token = piece[0]
        state.position += 1
        return token if logits[token] > -np.inf else int(np.argmax(logits))

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        return self._logits.setdefault(row, np.zeros(N_VOCAB, dtype=np.float32))

    def cut(self, sequence: int, length: int) -> bool:
        del self._cells[sequence][length:]
        return True

    def copy(self, source: int, destination: int, length: int) -> None:
        self._cells[destination] = self._cells[source][:length]

    def clear(self, sequence: int) -> None:
        self._cells[sequence].clear()

    def saved_size(self, sequence: int) -> int:
        return 4 * len(self._cells[sequence])

    def save(self, sequence: int) -> npt.NDArray[np.uint8] | None:
        return np.array(self._cells[sequence], dtype=np.int32).view(np.uint8)

    def restore(self, sequence: int, cells: npt.NDArray[np.uint8]) -> bool:
        self._cells[sequence] = []
        if sum(map(len, self._cells)) + cells.nbytes // 4 > self.info.n_cells:
            return False
        self._cells[sequence] = cells.view(np.int32).tolist()
        return True

    def close(self) -> None:
        self._cells.clear()

    def _catch_up(self, written: list[int], sampler: ScriptedSampler, answer: bytes) -> None:
        """Goes on behind what a guide forced, if that is what the script says too."""
        if len(written) == sampler.position:
            return
        text = b"".join(map(self.vocabulary.piece, written))
        rest = answer[len(text) :] if answer.startswith(text) else _behind(text, answer)
        if rest is not None:
            following = self.vocabulary.tokenize(rest.decode(errors="replace"), parse_control=False)
            sampler.answer = [*written, *following]
        sampler.position = len(written)

    def _scripted(self, row: int, sampler: ScriptedSampler) -> int:
        sequence = self._rows[row].sequence
        if sampler.rule is None:
            prompt = b"".join(map(self.vocabulary.piece, self._cells[sequence])).decode(errors="replace")
            sampler.rule = self.script.rule_for(prompt)
            sampler.answer = self._spelled(sampler.rule)
            sampler.n_prompt = len(self._cells[sequence])
        self._catch_up(self._cells[sequence][sampler.n_prompt :], sampler, sampler.rule.answer.encode())
        self._waits(sampler.rule.delay_s)
        if sampler.rule.fail_after is not None and sampler.position + 1 >= sampler.rule.fail_after:
            self._doomed.add(sequence)
        return sampler.answer[sampler.position] if sampler.position < len(sampler.answer) else END_OF_TURN

    def _waits(self, seconds: float) -> bool:
        """Computes as long as a slow model would. Says whether it was interrupted."""
        return self._interrupted.wait(seconds) if seconds else self._interrupted.is_set()

    def _spelled(self, rule: Rule) -> list[int]:
        if rule.spelling == "bytes":
            return list(rule.answer.encode(errors="replace"))
        return self.vocabulary.tokenize(rule.answer, parse_control=False)


def _behind(text: bytes, answer: bytes) -> bytes | None:
    """Where a script goes on that was led astray: behind the longest end of `text` that it has itself; None for none.

    So a script that thinks goes on with its answer when its thinking was closed before its time."""
    for length in range(min(len(text), 64), 3, -1):
        place = answer.find(text[-length:])
        if place >= 0:
            return answer[place + length :]
    return None
