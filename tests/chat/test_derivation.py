"""A format is found by what a template does, not by what its markers are called."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest

from nbllama.chat import understanding
from nbllama.chat.deriving.described import described
from nbllama.chat.errors import ChatError
from nbllama.chat.format import from_data, to_data
from nbllama.chat.pieces import TextDelta
from nbllama.chat.template import ChatTemplate
from tests.chat.conftest import NO_TEMPLATES, QWEN_LIKE, TEMPLATES
from tests.chat.formats import parse

# `<think>`, `</think>`, `<|im_start|>`, `<function=`, `[TOOL_CALLS]`: the words in them.
_WORDS = re.compile(r"(?<=<)(/?[|\uff5c]?)([A-Za-z_▁:]{2,})|(?<=\[)(/?)([A-Z_]{3,})(?=\])")
NO_CALLS = {
    "HuggingFaceTB-SmolLM3-3B",
    "google-gemma-2-2b-it",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
}
# The template writes what it has as text in the history otherwise than a model would.
HISTORY_DIFFERS = {"NVIDIA-Nemotron-Nano-v2": {"text", "text and call"}, "openai-gpt-oss-120b": {"text and call"}}


def understood(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos="<s>", eos="</s>", control_tokens=())


def renamed(source: str, seed: int) -> str:
    dice = random.Random(seed)
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        before, word = found.group(1) or found.group(3) or "", found.group(2) or found.group(4)
        if word not in names:
            names[word] = "".join(dice.choice(string.ascii_lowercase) for _ in range(dice.randint(3, 9)))
        return before + (names[word].upper() if word.isupper() else names[word])

    return _WORDS.sub(name, source)


def failed(template: ChatTemplate) -> set[str]:
    return {check.name for check in template.derived.checks if check.passed is False}


def test_every_template_is_understood_or_has_no_tools(real_template: Path) -> None:
    template = understood(real_template.read_text())
    assert (template.derived.source == "default") == (real_template.stem in NO_CALLS)
    assert template.format.family != "none"
    assert failed(template) == HISTORY_DIFFERS.get(real_template.stem, set())
    assert bool(template.warnings) == bool(failed(template))


def test_a_format_is_data(real_template: Path) -> None:
    format = understood(real_template.read_text()).format
    assert from_data(to_data(format)) == format


# The others are recognised by their markers, which have these names.
DERIVED = [path for path in TEMPLATES if described(path.read_text()) is None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", DERIVED or [NO_TEMPLATES], ids=lambda path: path.stem if path else "none")
def test_markers_may_have_any_names(path: Path, seed: int) -> None:
    source = path.read_text()
    template, other = understood(source), understood(renamed(source, seed))
    assert other.format.family == template.format.family
    assert failed(other) <= failed(template)
    # Later models of a family may think where the template says nothing of it.
    if template.format.think is None or template.format.think.close in source:
        assert (other.format.think is None) == (template.format.think is None)


def test_a_format_that_is_wrong_says_what() -> None:
    for data, word in (
        ([], "format: "),
        ({"cals": {}}, "format.cals"),
        ({"calls": {"syntax": "xml"}}, "format.calls.syntax"),
        ({"think": {"start": "x"}}, "format.think.start"),
        ({"channels": {"start": "x"}}, "format.channels"),
    ):
        with pytest.raises(ChatError, match=re.escape(word)):
            from_data(data)


def test_a_given_format_replaces_the_derived_one_and_is_tested(template_source: str) -> None:
    given = from_data({"think": {"open": "<t>", "close": "</t>"}, "calls": {"syntax": "json", "open": "<c>"}})
    template = ChatTemplate(template_source, bos="", eos="", control_tokens=(), format=given)
    assert template.format == given and template.derived.source == "given"
    assert "one call" in template.warnings[0]


@pytest.fixture
def template_source() -> str:
    return QWEN_LIKE


def test_a_template_is_understood_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = QWEN_LIKE + "{# once #}"
    first = understood(source)
    monkeypatch.setattr(understanding, "derive", None)
    assert understood(source).derived is first.derived
    with pytest.raises(TypeError):
        understood(source + "{# twice #}")


def test_the_end_of_a_text_is_text_where_it_is_spelled() -> None:
    """Mistral's is HTML's. It ends the answer as a token, which is never seen as text."""
    source = QWEN_LIKE.replace("<|im_end|>", "</s>")
    for eos in ("</s>", ""):
        template = ChatTemplate(source, bos="", eos=eos, control_tokens=())
        assert template.warnings == []
        assert parse(template.format, ["<s>old</s> new"]) == [TextDelta("<s>old</s> new")]
