"""`trace.fork()` and `trace.tree()`, from a kernel to a real worker with the demo model and back."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbllama
from nbllama.notebook import forking, trace
from nbllama.notebook.errors import AskError, TraceError
from nbllama.notebook.kernel_link import link
from nbllama.views.every import NAMES, view_of
from nbllama.wire.errors import ApiError, NotFound
from nbllama.worker import connection

TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


@pytest.fixture(scope="module")
def origin() -> Iterator[trace.Trace]:
    """The trace of an answer of the demo model, in a worker of its own."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBLLAMA_RUNTIME_DIR", str(folder))
        patch.delenv("NBLLAMA_BASE_URL", raising=False)
        link.detach()
        patch.setattr(trace, "_last", None)
        endpoint = link.endpoint()
        try:
            body: dict[str, Any] = {"model": "demo", "max_tokens": 200, "tools": [TOOL]}
            body["messages"] = [{"role": "user", "content": "What is the weather in Paris? </div><script>"}]
            body["nbllama"] = {"probabilities": 4}
            message = connection.request_json(endpoint, "POST", "/v1/messages", body)
            yield nbllama.trace(message["id"])
        finally:
            link.detach()
            if endpoint.pid is not None:
                os.kill(endpoint.pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    forking._kept.clear()


def test_a_fork_is_a_trace_of_its_own_out_of_the_cache(origin: trace.Trace) -> None:
    from anthropic.types import Message

    forked = origin.fork(0)

    assert isinstance(forked.message, Message) and forked.id != origin.id
    assert forked.record["forked_from"]["id"] == origin.id
    # The best that was not taken.
    assert forked.record["forked_from"]["token"] == origin.record["probabilities"][0]["top"][1][0]
    assert forked.text != origin.text
    n_prompt = len(origin.record["prompt_ids"])
    assert forked.usage is not None and (forked.usage.cache_read_input_tokens or 0) >= n_prompt - 1
    assert ("fork of", f"{origin.id}, at its token 0") in _shown(forked)


def test_a_token_by_its_text_and_from_the_end(origin: trace.Trace) -> None:
    ids, pieces = origin.record["output_ids"], origin.record["pieces"]
    text = bytes.fromhex(pieces[str(ids[-2])]).decode()
    same = origin.fork(-2, text, max_tokens=50)

    assert same.record["output_ids"] == ids
    assert same.message is not None and same.message.content[-1].type == "tool_use"
    assert same.message.content[-1].input == {"location": "Paris"}


def test_the_tree_has_the_family_of_any_member(origin: trace.Trace) -> None:
    first = origin.fork(0)
    second = first.fork(3)
    alone = nbllama.trace(second.id)

    for member in (origin, first, second, alone):
        frame = member.tree().df
        assert set(frame["trace"].dropna()) == {origin.id, first.id, second.id}
        assert list(frame["level"]) == [1, 1, 2, 2]
    assert frame["p"].between(0, 1).all()
    shown = origin.tree()._repr_mimebundle_()
    assert shown["text/plain"] == repr(origin.tree()) and "├─" in shown["text/plain"]
    assert second.id in shown["text/html"]
    # Forgotten here, its parents are found where the worker keeps them.
    forking._kept.clear()
    assert set(alone.tree().df["trace"].dropna()) == {origin.id, first.id, second.id}


@pytest.mark.parametrize(
    ("place", "token", "options", "said"),
    [
        (0, "nonsense", {}, "'nonsense' is none of the alternatives that were recorded at token 0: '<tool_call>'"),
        (10_000, None, {}, "it can be forked at 0 to"),
        (-10_000, None, {}, "it can be forked at 0 to"),
        (1, None, {}, "token 1 had no alternative"),
        (1, 5, {}, "is not allowed at 1: .* allows 1 token there"),
        (0, None, {"temperature": 7}, "temperature: Input should be less than or equal to 1"),
    ],
)
def test_what_cannot_be_is_said(
    origin: trace.Trace, place: int, token: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((TraceError, AskError), match=said):
        origin.fork(place, token, **options)


def test_without_probabilities_a_token_must_be_named(origin: trace.Trace) -> None:
    bare = origin.fork(0, probabilities=0)

    with pytest.raises(TraceError, match="no alternatives were recorded at token 2"):
        bare.fork(2)
    again = bare.fork(2, bare.record["output_ids"][2])
    assert again.text == bare.text


@pytest.mark.parametrize("name", NAMES)
def test_every_view_shows_a_fork_of_which_not_all_is_known(origin: trace.Trace, name: str) -> None:
    bare = origin.fork(0, origin.record["output_ids"][0], probabilities=0)
    forked = bare.fork(8, bare.record["output_ids"][8], probabilities=2)
    view = view_of(name, forked.record, before=origin.record)

    assert forked.record["probabilities"][0]["logprob"] is None
    assert view.rows() and view.html() and view.text()


def test_one_from_a_file_or_unknown_to_its_worker_cannot_be_forked(origin: trace.Trace) -> None:
    loaded = trace.Trace(origin.id, None, origin.record)  # as one that a file held
    with pytest.raises(TraceError, match="comes from a file"):
        loaded.fork(0)
    assert loaded.tree().df["trace"].tolist() == [origin.id]
    gone = trace.Trace("req_gone", origin.endpoint, {**origin.record, "id": "req_gone"})
    with pytest.raises(AskError, match="no trace req_gone: it is another client's, was too old"):
        gone.fork(0)


def test_the_door_speaks_json_and_keeps_each_clients_own(origin: trace.Trace) -> None:
    path = f"/nbllama/traces/{origin.id}/fork"
    wish = {"index": 1, "token": origin.record["output_ids"][1]}
    message = connection.request_json(origin.endpoint, "POST", path, wish)

    assert message["type"] == "message" and message["stop_reason"] == "tool_use"
    with pytest.raises(NotFound):
        connection.request_json(origin.endpoint, "POST", path, wish, headers={"nbllama-client": "another"})
    with pytest.raises(ApiError, match="token: Field required"):
        connection.request_json(origin.endpoint, "POST", path, {"index": 1})
    with pytest.raises(ApiError, match="Method not allowed"):
        connection.request_json(origin.endpoint, "GET", path)
    events = [event.name for event in connection.stream_events(origin.endpoint, wish, path=path)]
    assert events[0] == "message_start" and events[-1] == "message_stop"


def test_a_browser_sees_the_same_tree(origin: trace.Trace) -> None:
    first = origin.fork(0)
    second = first.fork(3)
    link = connection.open_connection(origin.endpoint, 30)
    try:
        link.request("GET", f"/nbllama/traces/{first.id}/tree")
        response = link.getresponse()
        page = response.read().decode()
    finally:
        link.close()

    assert response.status == 200 and "default-src 'none'" in response.headers["content-security-policy"]
    assert all(f"({one.id})" in page for one in (origin, first, second))
    assert "<script" not in page.lower()


def test_the_live_view_goes_on_from_an_alternative(origin: trace.Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_last", origin)
    assert nbllama.last is not None
    panel = nbllama.last.probabilities().widget()
    view = origin.probabilities().view
    others = [(i, n) for i in range(len(view.rows())) for n, one in enumerate(view.candidates(i)) if _may_stand(one)]
    # In place of the call, and behind it or inside its arguments, which are no text of the message.
    for at, place in (others[0], others[-1]):
        token = view.candidates(at)[place]
        panel.pick.value = at
        panel.alternatives.value = place
        panel.go_on.click()

        assert panel.alarm.value == "" and panel.go_on in _on_screen(panel)
        branch = panel.branches.grown[-1]
        forked = next(one for one in reversed(forking._kept.values()) if one.id != origin.id)
        assert forked.record["output_ids"][: at + 1] == [*origin.record["output_ids"][:at], token["id"]]
        assert branch.said and forked.record["output_text"].endswith(token["piece"] + branch.said)
        assert f"token {at}, instead of" in panel.branches.tree.value
        first_words = html.escape(branch.said.partition("\n")[0])
        assert first_words and first_words in panel.branches.tree.value
        (output,) = panel.branches.results.children[-1].outputs
        assert forked.id in output["data"]["text/html"]
    assert others[0][0] == 0 < others[-1][0]
    assert len(origin.tree().df["trace"].dropna()) == 3
    panel.close()


def test_the_live_view_of_a_file_has_no_such_button(origin: trace.Trace, tmp_path: Path) -> None:
    panel = nbllama.trace(origin.save(tmp_path / "lesson.json")).probabilities().widget()

    assert panel.alternatives in _on_screen(panel)
    assert not {panel.go_on, panel.branches.box} & set(_on_screen(panel))
    panel.close()


def test_the_example_of_the_docs_runs(origin: trace.Trace) -> None:
    text = (Path(__file__).parents[2] / "docs" / "fork.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)

    assert len(names["answer"].tree().df["trace"].dropna()) == 3
    assert nbllama.last is names["answer"]


def _may_stand(one: dict[str, Any]) -> bool:
    return not one["chosen"] and not one["forbidden"]


def _on_screen(widget: Any) -> list[Any]:
    return [widget, *(one for child in getattr(widget, "children", ()) for one in _on_screen(child))]


def _shown(one: trace.Trace) -> list[tuple[str, str]]:
    from nbllama.notebook import trace_summary

    return trace_summary.rows(json.loads(json.dumps(one.record)), one.text)
