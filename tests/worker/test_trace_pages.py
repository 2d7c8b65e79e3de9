"""What a browser gets at `nbllama/traces/…`: a real worker, a model that writes scripts, and nobody else's requests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nbllama.views.every import NAMES
from nbllama.worker import connection
from nbllama.worker.trace_pages import family
from tests.worker.test_endpoints import Answer, error_of

SCRIPT = "<script>alert(1)</script>"
CALL = {"name": "get_weather", "arguments": {"city": SCRIPT}}
TOOL = {
    "name": "get_weather",
    "description": f"{SCRIPT}</div>",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
KEY = "sk-ant-api03-0123456789abcdef"


@pytest.fixture
def endpoint(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> connection.Endpoint:
    """A worker whose model writes markup. Killed by `runtime`."""
    answer = f"{SCRIPT} <img src=x onerror=alert(2)>\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
    (runtime / f"{'<b>'}.json").write_text(json.dumps({"rules": [{"answer": answer}]}))
    monkeypatch.chdir(runtime)
    endpoint = connection.ensure(model="scripted:<b>.json")
    with (runtime / "starts").open("a") as starts:
        print(endpoint.pid, file=starts)
    return endpoint


def get(endpoint: connection.Endpoint, path: str, **headers: str) -> Answer:
    link = connection.open_connection(endpoint, 30)
    try:
        link.request("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})
        response = link.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        link.close()


def ask(endpoint: connection.Endpoint, text: str) -> str:
    body: dict[str, Any] = {"model": "any", "max_tokens": 200, "tools": [TOOL], "stream": True}
    body["messages"] = [{"role": "user", "content": text}]
    seen: dict[str, str] = {}
    for _ in connection.stream_events(endpoint, body, on_headers=seen.update):
        pass
    return seen["request-id"]


def test_every_view_is_a_page_in_which_nothing_runs(endpoint: connection.Endpoint) -> None:
    first, id = ask(endpoint, f"{SCRIPT} my key is {KEY}"), ask(endpoint, f"{SCRIPT} my key is {KEY} again")
    for view in (*NAMES, "page"):
        status, headers, data = get(endpoint, f"/nbllama/traces/{id}/{view}")
        html = data.decode()
        tags = set(re.findall(r"<\s*([a-z0-9]+)", html))

        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
        assert html.startswith("<!doctype html>") and html.endswith("</html>")
        assert tags.isdisjoint({"script", "iframe", "style", "svg", "link", "object", "form"})
        assert "onerror" not in "".join(re.findall(r"<[^>]*>", html))
        assert "alert(1)" in html or view in ("tokens", "timing", "cache", "probabilities"), view
    assert KEY not in html and "my key is" in html
    assert f"/{first}/" not in html


def test_the_list_is_a_page_for_browsers_and_json_for_others(endpoint: connection.Endpoint) -> None:
    id = ask(endpoint, "hello")
    _, headers, data = get(endpoint, "/nbllama/traces", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert f'href="traces/{id}/tokens"' in data.decode() and "<b>.json" not in data.decode()
    assert [one["id"] for one in json.loads(get(endpoint, "/nbllama/traces", accept="*/*")[2])["traces"]] == [id]


def test_only_ones_own(endpoint: connection.Endpoint) -> None:
    id = ask(endpoint, "hello")
    other = {"nbllama_client": "ada"}
    for path in (f"/nbllama/traces/{id}/tokens", f"/nbllama/traces/{id}/page"):
        answer = get(endpoint, path, **other)
        assert (answer[0], error_of(answer)["type"]) == (404, "not_found_error")
    assert id not in get(endpoint, "/nbllama/traces", accept="text/html", **other)[2].decode()


def test_what_is_compared(endpoint: connection.Endpoint) -> None:
    first, second, third = ask(endpoint, "one two three"), ask(endpoint, "four five"), ask(endpoint, "one two six")
    html = get(endpoint, f"/nbllama/traces/{third}/cache")[2].decode()
    assert "one·two" not in html and "one two" in html, "the closest of the earlier ones"
    named = get(endpoint, f"/nbllama/traces/{third}/cache?with={second}")[2].decode()
    assert "four five" in named
    assert get(endpoint, f"/nbllama/traces/{third}/cache?with=req_none")[0] == 404
    assert "no earlier request" in get(endpoint, f"/nbllama/traces/{first}/cache")[2].decode()


def test_an_unknown_view_names_the_known_ones(endpoint: connection.Endpoint) -> None:
    answer = get(endpoint, f"/nbllama/traces/{ask(endpoint, 'hello')}/nothing")
    assert answer[0] == 404 and "tokens, events" in error_of(answer)["message"]


def test_a_family_is_all_that_have_one_origin_also_when_that_is_forgotten() -> None:
    born = [("a", None), ("b", "a"), ("x", None), ("c", "b"), ("d", "gone"), ("e", "gone"), ("f", "d"), ("y", "x")]
    newest_first = [{"id": id, "forked_from": origin} for id, origin in reversed(born)]

    for members in ("abc", "xy", "def"):
        for id in members:
            assert family(id, newest_first) == list(members)
    assert family("new", newest_first) == ["new"]
