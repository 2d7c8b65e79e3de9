"""How much to think, in the words that a template knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbllama.wire.requests import MessagesRequest
from tests.chat.conftest import SHARED, TEMPLATES
from tests.chat.reference import template_of

pytestmark = pytest.mark.skipif(not TEMPLATES, reason=f"no templates in {SHARED}: set NBLLAMA_SHARED")


def prompt(file: str, request: Callable[..., MessagesRequest], effort: str | None) -> str:
    fields: dict[str, Any] = {"thinking": {"type": "adaptive"}}
    if effort is not None:
        fields["output_config"] = {"effort": effort}
    return template_of(file).render(request(**fields)).text


@pytest.mark.parametrize(
    ("file", "effort", "words"),
    [
        ("openai-gpt-oss-120b.jinja", "low", "Reasoning: low"),
        ("openai-gpt-oss-120b.jinja", "medium", "Reasoning: medium"),
        ("openai-gpt-oss-120b.jinja", "high", "Reasoning: high"),
        ("openai-gpt-oss-120b.jinja", "max", "Reasoning: high"),
        ("openai-gpt-oss-120b.jinja", None, "Reasoning: medium"),
        ("tencent-Hy3.jinja", "low", "reasoning_effort:low"),
        ("tencent-Hy3.jinja", "medium", "reasoning_effort:low"),
        ("tencent-Hy3.jinja", None, "reasoning_effort:high"),
        ("deepseek-ai-DeepSeek-V4.jinja", "max", "Reasoning Effort: Absolute maximum"),
    ],
)
def test_a_template_is_told_in_words_that_it_knows(
    file: str, effort: str | None, words: str, make_request: Callable[..., MessagesRequest]
) -> None:
    assert words in prompt(file, make_request, effort)


def test_one_without_a_word_for_it_is_rendered_as_always(make_request: Callable[..., MessagesRequest]) -> None:
    texts = {prompt("Qwen-Qwen3-0.6B.jinja", make_request, effort) for effort in ("low", "max", None)}
    assert len(texts) == 1
