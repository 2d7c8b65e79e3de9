"""What training needs, or a skip that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbllama.answer.published_models import SMOLLM2, find_published

# Compiling the elementwise parts takes half a minute; uncompiled they compute the same.
os.environ.setdefault("NBLLAMA_COMPILE", "0")
NO_BASE = f"no {SMOLLM2.file}: run `nbllama models get smollm2`"


@pytest.fixture(scope="session")
def base() -> Path:
    path = find_published(SMOLLM2)
    if path is None:
        pytest.skip(NO_BASE)
    return path
