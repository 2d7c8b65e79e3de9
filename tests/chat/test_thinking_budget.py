"""A budget for thinking: counted while it is open, and at its end the model is led out in its own format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbllama.answer.model_sources import resolve
from nbllama.chat.format import Format, ThinkTags
from nbllama.chat.guides import together
from nbllama.chat.parser import StreamParser
from nbllama.chat.pieces import TextDelta, ThinkDelta
from nbllama.chat.thinking_budget import ThinkingBudget
from nbllama.engine.llama_vocabulary import LlamaVocabulary
from tests.chat.conftest import NO_TEMPLATES, TEMPLATES
from tests.chat.reference import template_of
from tests.chat.test_grammar import vocabulary

END = "\n</think>\n\n"


@pytest.fixture(scope="module")
def demo() -> LlamaVocabulary:
    return vocabulary(str(resolve("demo").path))


def guide_of(
    tokens: Any, budget: int, format: Format | None = None, end: str = END, is_open: bool = False
) -> ThinkingBudget:
    def ids(text: str) -> list[int]:
        return list(tokens.tokenize(text, parse_control=True))

    return ThinkingBudget(format or Format(), end, budget=budget, is_open=is_open, tokenize=ids, piece=tokens.piece)


def write(guide: Any, tokens: Any, text: str) -> str:
    """What comes out if a model wants to write `text` and the guide has the last word."""
    wanted, written = list(tokens.tokenize(text, parse_control=True)), b""
    while wanted:
        if forced := list(guide.forced()):
            guide.accept(forced)
            written += b"".join(map(tokens.piece, forced))
            continue
        row = np.zeros(tokens.n_tokens, dtype=np.float32)
        guide.mask(row)
        id = wanted.pop(0)
        if row[id] > -np.inf:
            guide.accept([id])
            written += tokens.piece(id)
    return written.decode()


def test_within_the_budget_nothing_happens(demo: LlamaVocabulary) -> None:
    text = "<think>\nShort.\n</think>\n\nAn answer about <think> tags."
    assert write(guide_of(demo, 100), demo, text) == text


def test_at_its_end_thinking_is_closed_as_the_template_closes_it(demo: LlamaVocabulary) -> None:
    thoughts = "abcdefghij " * 30
    said = write(guide_of(demo, 40), demo, f"<think>\n{thoughts}")
    inside, _, after = said.removeprefix("<think>").partition(END)
    n_tokens = len(demo.tokenize(inside, parse_control=False))
    assert 36 <= n_tokens <= 44 and after


def test_opened_by_the_prompt_it_counts_from_the_start(demo: LlamaVocabulary) -> None:
    said = write(guide_of(demo, 3, is_open=True), demo, "abcdefghijklmnop")
    assert 0 < said.index(END) <= 12


def test_with_no_budget_there_is_no_thinking(demo: LlamaVocabulary) -> None:
    assert write(guide_of(demo, 0, is_open=True), demo, "Hello").startswith(END)
    parser = StreamParser(Format(), "", {})
    said = write(guide_of(demo, 0), demo, "<think>Hmm")
    pieces = parser.feed(said) + parser.finish()
    assert not any(isinstance(piece, ThinkDelta) and piece.text.strip() for piece in pieces)


def test_thinking_after_a_call_shares_the_budget(demo: LlamaVocabulary) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    text = f"<think>\naaaa bbbb cccc</think>\n{call}\n<think>"
    said = write(guide_of(demo, 24), demo, text + "x" * 200)
    assert said.startswith(text) and END in said[len(text) :][:60]


def test_a_rollback_takes_back_what_was_counted(demo: LlamaVocabulary) -> None:
    guide = guide_of(demo, 5, is_open=True)
    ids = demo.tokenize("xyxyxyxyxyxyxyxy", parse_control=False)
    guide.accept(ids[:3])
    for _ in range(3):
        guide.accept(ids[3:6])
        assert guide.forced()
        guide.rollback(3)
        assert not guide.forced()


def test_no_character_is_cut(demo: LlamaVocabulary) -> None:
    for budget in range(1, 9):
        said = write(guide_of(demo, budget, is_open=True), demo, "日本語のテキスト、日本語のテキスト")
        assert END in said and "\ufffd" not in said


def test_together_with_another_guide_the_end_is_written(demo: LlamaVocabulary) -> None:
    class Forbids:
        stop = None

        def mask(self, row: Any) -> None:
            row[: len(row) // 2] = -np.inf

        def forced(self) -> tuple[()]:
            return ()

        def accept(self, ids: Any) -> None:
            pass

        rollback = accept

        def possible(self, ids: Any) -> Any:
            return ids

    both = together([guide_of(demo, 2, is_open=True), Forbids()])
    assert END in write(both, demo, "abcdefgh" * 20)


@pytest.mark.parametrize("path", TEMPLATES or [NO_TEMPLATES], ids=lambda path: path.stem if path else "none")
def test_every_template_is_led_out_of_thinking(path: Any, demo: LlamaVocabulary) -> None:
    """What was forced is read as the end of thinking, by the same format's parser, and text or calls follow."""
    template = template_of(path.name)
    think = template.format.think
    if think is None:
        assert template.thinking_end == ""
        return
    assert template.thinking_end.strip() == think.close.strip()
    opened = think.open or ""
    guide = guide_of(demo, 30, template.format, template.thinking_end)
    said = write(guide, demo, opened + "abc def " * 100)
    assert template.thinking_end in said
    after = template.format.channels.start if template.format.channels else ""
    thoughts = said[: said.index(template.thinking_end) + len(template.thinking_end)]
    content = template.format.content.open if template.format.content else ""
    parser = StreamParser(template.format, opened, {"f": {}})
    pieces = parser.feed(f"{thoughts.removeprefix(opened)}{after}{content}Good day.") + parser.finish()
    assert "".join(piece.text for piece in pieces if isinstance(piece, ThinkDelta)).strip().startswith("abc def")
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)).strip() == "Good day."


def test_formats_without_an_opening_tag_begin_as_thinking(demo: LlamaVocabulary) -> None:
    format = Format(think=ThinkTags("", "[ANSWER]"))
    assert "[ANSWER]" in write(guide_of(demo, 5, format, "\n[ANSWER]\n"), demo, "abc" * 40)
