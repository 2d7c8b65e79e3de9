"""The inspectors of a trace: tables with good types, views that show themselves, files, and what cannot be had."""

from __future__ import annotations

import gzip
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbllama
from nbllama.notebook.errors import TraceError
from nbllama.notebook.inspectors.inspector import Inspector
from nbllama.notebook.trace import Trace
from nbllama.views.every import NAMES
from nbllama.views.masked_tokens import NOTE
from nbllama.wire.records import SCHEMA_VERSION
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import FakeWorker
from tests.views.asking import CALL, WEATHER, Record, asked, assistant, records, user

SCRIPT = "<script>alert('x')</script>"
KEY = "sk-ant-REDACTED"


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Two turns of a conversation that ends in a call, with a secret and markup in it."""
    evil = WEATHER | {"name": "get_weather", "description": SCRIPT}
    first = asked(user(f"think {SCRIPT} {KEY}"), tools=[evil], stream=True, thinking={"type": "adaptive"})
    answer = assistant("Hello to you!")
    second = first | {"messages": [*first["messages"], answer, user("The weather in Paris?")]}
    rules = [
        {"when": "weather", "answer": f"{SCRIPT}\nYour key is {KEY}.\n{CALL}"},
        {"when": "think", "answer": "<think>\nHm.\n</think>\n\nHello to you!"},
    ]
    found = records(tmp_path_factory.mktemp("turns"), first, second, rules=rules)
    for record in found:
        record["probabilities"] = [
            {"logprob": math.log(0.9), "top": [[id, math.log(0.9)], [1, -3.0]], "entropy": 0.5, "forced": False}
            for id in record["output_ids"]
        ]
    return found


@pytest.fixture
def trace(turns: list[Record], worker: FakeWorker) -> Trace:
    worker.record, worker.older = turns[1], [turns[0]]
    return nbllama.trace(turns[1]["id"])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_table_and_shows_itself(name: str, trace: Trace) -> None:
    inspector: Inspector[Any] = getattr(trace, name)()
    bundle = inspector._repr_mimebundle_()

    assert isinstance(inspector.df, pd.DataFrame) and len(inspector.df)
    assert tuple(inspector.df.columns) == inspector.view.columns == tuple(inspector.dtypes)
    assert inspector.df is inspector.df
    texts = [column for column, kind in inspector.dtypes.items() if kind == "text"]
    assert {str(inspector.df[column].dtype) for column in texts} <= {"str", "object"}
    assert all(str(inspector.df[name].dtype) == kind for name, kind in inspector.dtypes.items() if kind != "text")
    assert inspector.view.title in bundle["text/plain"] and bundle["text/html"] == inspector.html
    assert str(inspector) == inspector.text and trace.id in repr(inspector)
    # A model wrote markup into its answer, a user into the prompt, and a tool has it in its description.
    assert not re.search(r"<\s*(script|style|svg|iframe)", inspector.html)


def test_each_table_has_its_types_without_rows_as_well() -> None:
    nothing = Trace("req_1", None, {"id": "req_1"})

    for name in NAMES:
        if name != "timing":
            frame = getattr(nothing, name)().df
            assert len(frame) == 0 and len(frame.columns) > 5
    assert str(nothing.tokens().df["id"].dtype) == "Int64"
    assert "not recorded" in nothing.tokens().text


def test_tables_answer_questions(trace: Trace) -> None:
    tokens = trace.tokens()
    frame = tokens.df

    assert "".join(frame[frame.part == "prompt"].piece) == trace.record["prompt"]
    assert tokens.counts["user"] == ((frame.origin == "user") & (frame.part == "prompt")).sum() > 0
    assert frame[frame.part == "answer"].cached.isna().all()
    assert trace.events().faults == [] and trace.events().df.gap.sum() >= 0
    assert trace.calls().failures == [] and (trace.calls().df.pieces.str.contains("ToolStart")).any()
    assert set(trace.probabilities().alternatives.columns) == {"i", "rank", "id", "piece", "p", "chosen"}
    assert len(trace.timing().tokens) == len(trace.record["output_ids"])


def test_the_cache_is_compared_with_the_request_before(trace: Trace, turns: list[Record], worker: FakeWorker) -> None:
    assert trace.cache().causes == trace.cache(turns[0]["id"]).causes
    trace.record["reuse"] = {}
    assert "compare with" not in trace.cache().text and trace.cache().view.comparison is not None
    worker.older = []
    assert "There is no earlier request to compare with." in trace.cache().text


def test_two_streams_are_compared_by_what_they_say(trace: Trace) -> None:
    """Cut otherwise, with other ids and times it is the same; another word and a missing end are not."""
    events = [event for _, event in trace.record["events"]]
    at = next(n for n, event in enumerate(events) if len(event.get("delta", {}).get("text", "")) > 1)
    delta = events[at]
    text = delta["delta"]["text"]
    cut = [{**delta, "delta": {"type": "text_delta", "text": part}} for part in (text[:1], text[1:])]
    other = json.loads(json.dumps([*events[:at], *cut, *events[at + 1 :]]))
    other[0]["message"]["id"] = "msg_other"

    same = trace.events().compare(nbllama.events(other))
    assert set(same.df.what) == {"same"} and "They say the same." in same.text
    other[at]["delta"]["text"] = f"{SCRIPT}!"
    changed = trace.events().compare(nbllama.events(other[:-1]))
    assert changed.df[changed.df.what != "same"].what.tolist() == ["changed", "only first"]
    assert "<script" not in changed.html and "differ in 2 parts" in changed.html
    assert str(changed.df["index"].dtype) == "Int64"


def test_a_row_for_each_request(trace: Trace, turns: list[Record], worker: FakeWorker) -> None:
    table = nbllama.traces()
    timing = table.timing()

    assert timing.df.id.tolist() == table.id.tolist() == [turns[1]["id"], turns[0]["id"]]
    assert timing.df["decode"].notna().all()
    worker.older = []
    older = table[table.id == turns[0]["id"]].timing().df
    assert older.total.tolist() == [0.5] and older["decode"].isna().all()


def test_a_saved_trace_is_looked_at_without_any_server(trace: Trace, worker: FakeWorker, tmp_path: Path) -> None:
    trace.save(tmp_path / "lesson.json")
    trace.save(tmp_path / "lesson.json.gz")
    worker.die()

    for name in ("lesson.json", "lesson.json.gz"):
        loaded = nbllama.trace(str(tmp_path / name))
        assert loaded.id == trace.id and loaded.message is not None
        assert loaded.events().df.equals(nbllama.trace(tmp_path / "lesson.json").events().df)
        assert "no earlier request" in loaded.cache().text
        assert loaded.cache(trace).view.comparison is not None
        with pytest.raises(TraceError, match="loaded from a file"):
            _ = loaded.endpoint


def test_a_saved_trace_holds_no_key_not_even_as_tokens(trace: Trace, tmp_path: Path) -> None:
    spelled = {"".join(piece or "" for piece in trace.tokens().df.piece)}
    assert all(KEY in text for text in spelled)

    data = trace.save(tmp_path / "t.json").read_text()
    loaded = nbllama.trace(tmp_path / "t.json")
    frame = loaded.tokens().df

    assert KEY not in data and NOTE in loaded.record["warnings"]
    by_ids = [bytes.fromhex(loaded.record["pieces"].get(str(id), "")) for id in loaded.record["prompt_ids"]]
    assert b"sk-ant" not in b"".join(by_ids) and b"quick" not in b"".join(by_ids)
    assert frame[frame.id.isna()].part.unique().tolist() == ["prompt", "answer"]
    assert frame.origin.tolist() == trace.tokens().df.origin.tolist()
    assert KEY in trace.save(tmp_path / "t.json", masked=False).read_text()


def test_a_page_for_a_bug_report(trace: Trace, tmp_path: Path) -> None:
    path = trace.to_html(tmp_path / "report.html")
    html = Path(path).read_text(encoding="utf-8")

    assert html == trace.to_html() and len(html.encode()) < 2_000_000
    assert KEY not in html and "<script" not in html and "http" not in html.replace("http-equiv", "")
    assert all(f'id="{name}"' in html for name in NAMES)
    assert "<title>Tokens: req_" in trace.tokens().save(tmp_path / "tokens.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("no.json", None, "No such file"),
        ("picture.json", b"\x89PNG", "is no trace"),
        ("cut.json.gz", gzip.compress(b'{"a": 1}' * 99)[:-9], "gzip is cut off"),
        ("other.json", b'{"cells": []}', "names no schema_version"),
        ("later.json", json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode(), "upgrade nbllama"),
    ],
)
def test_a_wrong_file(name: str, data: bytes | None, sentence: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TraceError, match=sentence) as caught:
        nbllama.trace(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_where_a_trace_cannot_be_saved(tmp_path: Path) -> None:
    trace = Trace("req_1", None, {"id": "req_1", "message_id": "", "client": "", "model": "", "created": 0.0} | _LEAST)
    with pytest.raises(TraceError, match=r"lesson\.txt: a trace is saved as \.json or \.json\.gz"):
        trace.save("lesson.txt")
    with pytest.raises(TraceError, match=r"cannot write .+: No such file"):
        trace.save(tmp_path / "nowhere" / "lesson.json")


_LEAST = {"stream": False}


def test_a_megabyte_of_prompt_is_shown_shortened_and_counted(trace: Trace) -> None:
    n = 250_000
    record = trace.record | {"prompt": "word" * n, "prompt_ids": [7] * n, "prompt_offsets": [*range(0, 4 * n, 4)]}
    record["pieces"] = {"7": b"word".hex()}
    record["spans"] = [{"start": 0, "end": 4 * n, "kind": "user", "message": 0, "block": 0}]
    tokens = Trace("req_1", None, record).tokens()

    assert f"{n - 1500:,} tokens left out" in tokens.html and len(tokens.html) < 1_000_000
    assert len(tokens.text) < 50_000 and (tokens.df.part == "prompt").sum() == n


def test_half_a_character_pair_is_no_trouble(trace: Trace, tmp_path: Path) -> None:
    half = json.loads('"\\ud83d"')
    trace.record["output_text"] = half
    trace.record["events"][3][1]["delta"] = {"type": "text_delta", "text": half}

    for inspector in (trace.calls(), trace.events()):
        assert inspector.html.encode() and inspector.text.encode()
        inspector.save(tmp_path / "view.html")
    assert nbllama.trace(trace.save(tmp_path / "t.json")).events().df.text.tolist()


def test_a_widget_is_made_of_the_view(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = types.ModuleType("nbllama.notebook.widgets")
    for name in NAMES:
        setattr(made, name, lambda *parts: parts)
    monkeypatch.setitem(sys.modules, "nbllama.notebook.widgets", made)

    for name in NAMES:
        inspector = getattr(trace, name)()
        wanted = (inspector.view, trace.fork) if name == "probabilities" else (inspector.view,)
        assert inspector.widget() == wanted


def test_without_ipywidgets_a_line_says_what_to_do(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nbllama.notebook.widgets", raising=False)

    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'ipywidgets'", name="ipywidgets")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(TraceError, match=r"a widget needs ipywidgets.*%pip install ipywidgets"):
        trace.tokens().widget()


def test_an_expired_trace_and_a_dead_worker_are_one_line(shell: Shell, worker: FakeWorker) -> None:
    shell.run("%%llama\nhello")
    shell.run("import nbllama")
    error = shell.fails("nbllama.last.tokens()")
    assert isinstance(error, TraceError) and "too old to keep" in str(error)
    worker.die()
    for cell in ("nbllama.last.events()", "nbllama.traces().timing()"):
        error = shell.fails(cell)
        assert isinstance(error, TraceError) and len(str(error).splitlines()) == 1
