"""The base model's file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nbllama.answer.published_models import SMOLLM2, find_published

NAME = "SmolLM2-135M-Instruct"
SHA256 = SMOLLM2.sha256


def find_base(path: Path | None = None) -> Path:
    """The GGUF at `path`, else the one that `nbllama models get smollm2` fetched or its installed package holds.

    Exits with a sentence where there is none, or where it is another file: an adapter fits one base alone.
    """
    found = path or find_published(SMOLLM2)
    if found is None or not found.is_file():
        raise SystemExit(f"no {SMOLLM2.file}: run `nbllama models get smollm2`, or name the file with --base")
    if hashlib.sha256(found.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{found} is not the {SMOLLM2.file} of {SMOLLM2.package} {SMOLLM2.version}")
    return found
