"""`.events()`: the stream as it was, and what breaks its rules."""

from __future__ import annotations

from typing import ClassVar

from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.inspectors.shown_view import TEXT
from nbllama.notebook.inspectors.streams import StreamsInspector
from nbllama.views.events import Events
from nbllama.views.streams_compared import StreamsCompared


class EventsInspector(Inspector[Events]):
    """`df` has a row for each event."""

    dtypes: ClassVar = {
        "n": "int64",
        "time": "float64",
        "gap": "float64",
        "event": TEXT,
        "index": "Int64",
        "kind": TEXT,
        "text": TEXT,
        "payload": TEXT,
    }

    def compare(self, other: EventsInspector) -> StreamsInspector:
        """With another stream, as the second one: what it says otherwise, wherever it was cut into deltas."""
        return StreamsInspector(StreamsCompared(self.view, other.view), f"{self.of} and {other.of}")

    @property
    def faults(self) -> list[str]:
        """What breaks the rules of the stream, each as a sentence with the event's number; empty: it keeps them all."""
        return [finding.sentence for finding in self.view.findings if finding.fault]

    @property
    def notes(self) -> list[str]:
        """What is allowed but odd."""
        return [finding.sentence for finding in self.view.findings if not finding.fault]
