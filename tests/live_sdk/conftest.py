"""A TCP door to the demo model, for whichever SDK this interpreter has.

`NBLLAMA_PYTHON` names the interpreter that serves, so that the SDK under test may live in another environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.serve_process import Door, serving


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    with serving("demo", python=os.environ.get("NBLLAMA_PYTHON", sys.executable)) as door:
        assert door.model == "demo"
        yield door
