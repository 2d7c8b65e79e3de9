"""`.calls()`: the raw text beside what the parser made of it."""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT
from nbllama.views.calls import Calls


class CallsInspector(Inspector[Calls]):
    """`df` has a row for each step of the parser."""

    dtypes: ClassVar = {
        "i": "int64",
        "start": "int64",
        "end": "int64",
        "text": TEXT,
        "state": TEXT,
        "decision": TEXT,
        "pieces": TEXT,
        "events": TEXT,
        "forced": "Int64",
        "removed": "float64",
    }

    @property
    def failures(self) -> list[str]:
        """The calls that could not be read, each as a sentence that names the character."""
        return [failure.sentence for failure in self.view.failures]
