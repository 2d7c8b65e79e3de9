"""The model's tokenizer, made from the vocabulary in its GGUF: the same ids as llama.cpp gives."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_CONTROL = 3
"""llama.cpp's type of a token that stands for no text."""


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of the GGUF at `path`. Its special tokens are the vocabulary's, no others."""
    reader = GGUFReader(path)
    tokens, merges, types = (
        reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type")
    )
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=pairs))
    # What llama.cpp calls "smollm": single digits, then GPT-2's pieces.
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, type in zip(tokens, types, strict=True) if type == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


class Encoder:
    """Text to ids. Special tokens that the text spells become special tokens; nothing is added at either end."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)

    def __call__(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))
