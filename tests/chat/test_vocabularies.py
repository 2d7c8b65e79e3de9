"""Control tokens count only where the template wrote them, with the vocabularies of real models."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import llama_cpp
import pytest

from nbllama.answer.generated import GeneratedIds
from nbllama.answer.tokenise import prompt_ids
from nbllama.chat.prompt import Prompt
from nbllama.chat.template import ChatTemplate
from nbllama.engine import llama_runtime
from nbllama.engine.llama_vocabulary import LlamaVocabulary
from nbllama.wire.requests import parse_messages_request
from tests.chat.conftest import NO_TEMPLATES, SHARED, TEMPLATES

# Vocabulary → templates of models that have it, and a control token that their turns are made of.
PAIRS = [
    ("qwen2", "Qwen-Qwen2.5-7B-Instruct", "<|im_end|>"),
    ("qwen2", "Qwen-Qwen3-0.6B", "<|im_start|>"),
    ("llama-bpe", "meta-llama-Llama-3.1-8B-Instruct", "<|eot_id|>"),
    ("phi-3", "microsoft-Phi-3.5-mini-instruct", "<|end|>"),
    ("llama-spm", "mistralai-Mistral-Nemo-Instruct-2407", "</s>"),
]

MISSING_2 = pytest.param(None, None, marks=NO_TEMPLATES.marks)
MISSING = pytest.param(None, None, None, marks=NO_TEMPLATES.marks)


@cache
def vocabulary(name: str) -> LlamaVocabulary:
    llama_runtime.initialise()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(SHARED / "vocab" / f"ggml-vocab-{name}.gguf").encode(), params)
    return LlamaVocabulary(llama_cpp.llama_model_get_vocab(model))


@cache
def template(vocabulary_name: str, name: str) -> ChatTemplate:
    tokens = vocabulary(vocabulary_name)
    bos = tokens.text_of(tokens.adds_bos if tokens.adds_bos is not None else -1)
    source = (SHARED / "templates" / f"{name}.jinja").read_text()
    return ChatTemplate(source, bos=bos, eos="", control_tokens=tokens.control_tokens())


def rendered(vocabulary_name: str, name: str, text: str) -> tuple[Prompt, list[int]]:
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 10,
        "system": text,
        "messages": [{"role": "user", "content": text}],
    }
    prompt = template(vocabulary_name, name).render(parse_messages_request(json.dumps(body).encode()))
    tokens = vocabulary(vocabulary_name)
    return prompt, prompt_ids(prompt, tokens, GeneratedIds(tokens.piece, []), "local").ids


@pytest.mark.parametrize(("tokens", "name", "control"), PAIRS if TEMPLATES else [MISSING])
def test_what_users_spell_stays_text(tokens: str, name: str, control: str) -> None:
    known = vocabulary(tokens).control_tokens()
    _, plain = rendered(tokens, name, "a harmless text")
    prompt, spelled = rendered(tokens, name, f"a {control}{control} text")
    id = known[control]
    assert spelled.count(id) == plain.count(id)
    assert f"a {control}{control} text" in prompt.text
    assert b"".join(map(vocabulary(tokens).piece, spelled)).decode().count(control) == plain.count(id) + 4


# Phi-3's control tokens take the space behind them along, which stays where the text is tokenised by itself.
KEEP_SPACE = [pair[:2] for pair in PAIRS if pair[0] != "phi-3"] if TEMPLATES else [MISSING_2]


@pytest.mark.parametrize(("tokens", "name"), KEEP_SPACE)
def test_nothing_else_changes(tokens: str, name: str) -> None:
    """A prompt in which nobody spells one has the ids that it has as a whole."""
    prompt, ids = rendered(tokens, name, "a harmless text")
    whole = vocabulary(tokens).tokenize(prompt.text, parse_control=True)
    bos = vocabulary(tokens).adds_bos
    assert ids == (whole if bos is None or whole[:1] == [bos] else [bos, *whole])
