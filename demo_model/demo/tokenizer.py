"""The demo model's tokenizer: byte-level BPE in which neither digits nor spaces merge with anything.

So a word is spelled the same wherever it stands, behind a quote, an underscore or a space, and a number is its digits:
to copy a value is to repeat its tokens. It costs a third more tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from demo_model.packing import DialogueGroup

END_OF_TEXT, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, TURN, END_OF_TURN)
TAGS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
PRE_TOKENIZER = "gpt-2"
"""llama.cpp's name for how text is cut before merging."""
GROUPS = 1200
DOCUMENTED = [
    "json",
    "random",
    "typing",
    "collections",
    "asyncio",
    "string",
    "textwrap",
    "statistics",
    "functools",
    "pathlib",
]


def train_tokenizer(groups: Iterable[DialogueGroup], size: int) -> Tokenizer:
    """A tokenizer of `size` tokens, from the first groups and from what Python's own modules say of themselves."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alone = [pre_tokenizers.Split(Regex(what), "isolated") for what in (r"\d", r"\s")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*alone, words])
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*CONTROL, *TAGS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*_dialogues(islice(groups, GROUPS)), *_docstrings()], trainer)
    return as_llama_cpp_cuts(tokenizer)


def as_llama_cpp_cuts(tokenizer: Tokenizer) -> Tokenizer:
    """The same merges behind GPT-2's cuts alone, which llama.cpp knows.

    Its cuts join digits, and a space with the word behind it; since no merge does, both come out single.
    """
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*CONTROL, *TAGS)])
    return tokenizer


def _dialogues(groups: Iterable[DialogueGroup]) -> Iterator[str]:
    for group in groups:
        yield group.prefix
        yield from ("".join(text for text, _ in branch) for branch in group.branches)


def _docstrings() -> Iterator[str]:
    for name in DOCUMENTED:
        module = import_module(name)
        yield inspect.getdoc(module) or ""
        yield from (inspect.getdoc(getattr(module, inner)) or "" for inner in module.__all__)


class Encoder:
    """Text to ids. Special tokens that the text spells become special tokens; nothing is added at either end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))
