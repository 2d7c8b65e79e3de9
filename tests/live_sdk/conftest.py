"""A TCP door to the demo model, for whichever SDK this interpreter has.

`NBLLAMA_PYTHON` names the interpreter that serves, so that the SDK under test may live in another environment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest

from tests.serve_process import Door, serving

PYTHON = os.environ.get("NBLLAMA_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def slow_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A model with a pause before each word: the demo model may be done before the first event is on its way."""
    script = tmp_path_factory.mktemp("script") / "slow.json"
    rule = {"answer": "Hello there, I take my time with each word.", "delay_s": 0.03}
    script.write_text(json.dumps({"rules": [rule]}))
    with serving(f"scripted:{script}", python=PYTHON) as door:
        yield door


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    with serving("demo", python=PYTHON) as door:
        assert door.model == "demo"
        yield door
