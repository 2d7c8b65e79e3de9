"""docs/traces.md names what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import nbllama
from nbllama.notebook.inspectors.cache import CacheInspector
from nbllama.notebook.inspectors.calls import CallsInspector
from nbllama.notebook.inspectors.events import EventsInspector
from nbllama.notebook.inspectors.probabilities import ProbabilitiesInspector
from nbllama.notebook.inspectors.streams import StreamsInspector
from nbllama.notebook.inspectors.timing import TimingInspector
from nbllama.notebook.inspectors.tokenizers import TokenizersInspector
from nbllama.notebook.inspectors.tokens import TokensInspector
from nbllama.notebook.trace import Trace
from nbllama.notebook.trace_list import TraceTable
from nbllama.views.every import NAMES

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "traces.md").read_text(encoding="utf-8")
INSPECTORS = (TokensInspector, CacheInspector, CallsInspector, EventsInspector, ProbabilitiesInspector)
INSPECTORS += (TimingInspector, TokenizersInspector, StreamsInspector)  # type: ignore[assignment]  # of one base


def test_every_inspector_and_public_name_is_there() -> None:
    assert all(f"### {name}: " in TEXT and f"nbllama.last.{name}(" in TEXT for name in NAMES)
    public = {"last", "trace", "traces", "tokens", "parse", "events"}
    assert public <= set(nbllama.__all__) and all(f"nbllama.{name}" in TEXT for name in public)
    assert len([name for name in nbllama.__all__ if not name.startswith("__")]) <= 12


def test_what_it_names_exists() -> None:
    names = set(re.findall(r"nbllama\.(?:last|trace|traces\(\))\.(\w+)", TEXT))
    known = {name for kind in (Trace, TraceTable) for name in dir(kind)}
    assert names and names <= known
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.S))
    used = set(re.findall(r"^(?:\w+ = )?(?:tokens|calls|events|probabilities)\.(\w+)", code, re.M))
    assert used and used <= {name for kind in INSPECTORS for name in dir(kind)}


def test_every_column_is_explained() -> None:
    columns = (DOCS / "views.md").read_text(encoding="utf-8").partition("## Columns")[2]
    for kind in INSPECTORS:
        missing = [name for name in kind.dtypes if f"`{name}`" not in columns]
        assert not missing, f"docs/views.md does not explain {missing} of {kind.__name__}"
