"""`nbllama.last`, `trace()`, `traces()`: what the record says, as the objects of the trade."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbllama
from nbllama.notebook.errors import TraceError
from nbllama.wire.answers import new_message
from nbllama.wire.errors import NotFound
from nbllama.wire.records import TRACES_OFF, RequestRecord
from nbllama.worker import connection
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import USAGE, FakeWorker, text_answer


def record_of(*pieces: str, **changes: Any) -> dict[str, Any]:
    """The record of an answer with these pieces of text."""
    events = [[n / 10, event.data()] for n, event in enumerate(text_answer(*pieces))]  # type: ignore[union-attr]
    content = [{"type": "text", "text": "".join(pieces)}]
    message = new_message("msg_fake", "fake", USAGE) | {"content": content, "stop_reason": "end_turn"}
    record = RequestRecord(
        id="req_fake", message_id="msg_fake", client="local", model="fake", created=1.8e9, stream=True
    )
    record.request = {"model": "fake"}
    record.events, record.message, record.ending = events, message, "done"
    record.prompt_ids, record.cached_tokens, record.output_ids = [1, 2, 3], 2, [4, 5]
    record.timings = {"total_s": 0.5, "tokens_per_second": 123.4}
    return record.to_dict() | changes


@pytest.fixture
def last(worker: FakeWorker) -> nbllama.Trace:  # type: ignore[name-defined]  # only for type checkers
    worker.record = record_of("Hello", " <b>there")
    trace = nbllama.trace("req_fake")
    assert trace is not None
    return trace


def test_what_a_trace_holds(last: Any) -> None:
    from anthropic.types import Message

    assert last.id == "req_fake"
    assert last.text == "Hello <b>there"
    assert isinstance(last.message, Message) and last.message.id == "msg_fake"
    assert last.usage.output_tokens == 3
    assert last.request == {"model": "fake"}
    assert last.timings["total_s"] == 0.5


def test_it_shows_itself_as_static_html_and_text(last: Any) -> None:
    bundle = last._repr_mimebundle_()

    assert "3 tokens, 2 of them cached" in bundle["text/plain"]
    assert "2 tokens, 123 tokens/s" in bundle["text/plain"]
    assert "Hello &lt;b&gt;there" in bundle["text/html"] and "<b>" not in bundle["text/html"]
    assert repr(last) == "Trace('req_fake')"


def test_a_request_without_a_whole_answer(worker: FakeWorker) -> None:
    error = {"type": "api_error", "message": "it broke"}
    worker.record = record_of("Hel", message=None, ending="error", error=error)
    worker.record["events"] = worker.record["events"][:3]
    trace: Any = nbllama.trace("msg_fake")

    assert trace.text == "Hel"
    assert (trace.message.stop_reason, trace.message.content[0].text) == (None, "Hel")
    assert "error: it broke" in trace._repr_mimebundle_()["text/plain"]


def test_a_request_without_any_answer(worker: FakeWorker) -> None:
    worker.record = record_of(message=None, ending="cancelled", events=[])

    assert (nbllama.trace("msg_fake").message, nbllama.trace("msg_fake").usage) == (None, None)


def test_traces_are_a_table(worker: FakeWorker) -> None:
    assert len(nbllama.traces()) == 0
    worker.record = record_of("Hello")
    frame = nbllama.traces()

    assert frame.id.tolist() == ["req_fake"]
    assert str(frame.created.dtype).startswith("datetime64") and frame.created[0].year == 2027
    assert frame.output.sum() == 3 and frame.message.tolist() == ["msg_fake"]


def test_a_trace_is_found_by_message_too(last: Any) -> None:
    assert nbllama.trace(last.message).id == nbllama.trace("msg_fake").id == nbllama.trace(last).id == "req_fake"
    with pytest.raises(TypeError):
        nbllama.trace(5)


def test_no_trace(worker: FakeWorker) -> None:
    with pytest.raises(TraceError, match="no trace of req_nobody"):
        nbllama.trace("req_nobody")
    with pytest.raises(TraceError, match="no trace of msg_…"):
        nbllama.trace("msg_…")


def test_a_trace_that_was_looked_at_outlives_its_worker(worker: FakeWorker) -> None:
    worker.record = record_of("Hello")
    seen = nbllama.trace("req_fake")
    worker.die()

    assert seen.text == "Hello"
    with pytest.raises(TraceError):
        nbllama.trace("req_fake")


def test_last_is_always_the_current_one(worker: FakeWorker) -> None:
    assert nbllama.last is None
    nbllama.client().messages.create(model="fake", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])
    first = nbllama.last
    assert first is not None and first is nbllama.last
    nbllama.client().messages.create(model="fake", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])

    assert nbllama.last is not first
    assert "last" not in vars(nbllama)


def test_public_names() -> None:
    assert {"client", "async_client", "last", "trace", "traces"} <= set(dir(nbllama))
    with pytest.raises(AttributeError, match="nobody"):
        nbllama.nobody  # noqa: B018  # the access is the test


def test_load_ext_brings_neither_the_sdk_nor_pandas() -> None:
    code = (
        "import sys\nfrom IPython.core.interactiveshell import InteractiveShell as S\n"
        "S.instance().run_line_magic('load_ext', 'nbllama')\n"
        "print([name for name in ('anthropic', 'pandas', 'mistune', 'pydantic') if name in sys.modules])"
    )
    root = Path(nbllama.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_traces_that_are_turned_off_are_said_in_one_line_at_once(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def refuse(endpoint: Any, method: str, path: str, *rest: Any, **more: Any) -> Any:
        if "/traces/" in path:
            asked.append(path)
            raise NotFound(TRACES_OFF)
        return request_json(endpoint, method, path, *rest, **more)

    request_json = connection.request_json
    monkeypatch.setattr(connection, "request_json", refuse)
    shell.run("%%llama\nhello")
    n_asked = len(asked)
    capsys.readouterr()
    shell.run("import nbllama\nnbllama.last")

    shown = capsys.readouterr().out
    assert TRACES_OFF in shown and "Traceback" not in shown
    assert (n_asked, len(asked)) == (1, 2)
    error = shell.fails("nbllama.last.tokens()")
    assert isinstance(error, TraceError) and len(str(error).splitlines()) == 1
