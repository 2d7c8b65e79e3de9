"""The key at a real Jupyter server: it opens the API, and no other route of the whole table."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_jupyter_server import BASE_URL, TOKEN, Server, environment, jupyter, message

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
LIST_ROUTES = """
import json, sys
from jupyter_server.serverapp import ServerApp
app = ServerApp()
app.initialize(sys.argv[1:], new_httpserver=False)
def patterns(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from patterns(rule.target)
        elif hasattr(rule.matcher, "regex"):
            yield rule.matcher.regex.pattern
with open("routes.json", "w") as file:
    json.dump(list(patterns(app.web_app.default_router)), file)
"""
SILENT = "lab/api/licenses"
"""JupyterLab leaves every request to it unanswered at a server that has not opened Lab, whoever asks."""

API = re.compile(r"/a%40b/(nbllama/)?v1(/|$)")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with jupyter() as running:
        yield running


def key_of(server: Server, *arguments: str) -> str:
    command = [sys.executable, "-m", "nbllama", "key", *arguments]
    made = subprocess.run(command, env=environment(server.folder), capture_output=True, text=True, check=True)
    return made.stdout.strip()


def paths_of(server: Server) -> list[str]:
    """One path for each route of the server that runs, the same flags and files read."""
    flags = [f"--ServerApp.base_url={BASE_URL}", "--ServerApp.jpserver_extensions={'nbllama': True}", "--allow-root"]
    flags += [f"--ServerApp.root_dir={server.folder}", f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-c", LIST_ROUTES, *flags]
    ran = subprocess.run(
        command, env=environment(server.folder), cwd=server.folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    patterns = json.loads((server.folder / "routes.json").read_text())
    return sorted({sample(pattern) for pattern in patterns})


def sample(pattern: str) -> str:
    """A short text that `pattern` matches."""
    tree = re._parser.parse(pattern)  # type: ignore[attr-defined]  # what the pattern means, nobody else tells
    text = _text(tree)
    assert re.fullmatch(pattern, text), (pattern, text)
    return text


def _text(tree: Any) -> str:
    return "".join(_piece(str(kind), value) for kind, value in tree)


def _piece(kind: str, value: Any) -> str:
    match kind:
        case "LITERAL":
            return chr(int(value))
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = value
            return _text(inner) * min(max(int(least), 1), int(most))
        case "SUBPATTERN":
            return _text(value[-1])
        case "BRANCH":
            return _text(value[1][0])
        case "IN":
            first = value[0]
            if str(first[0]) == "RANGE":
                return chr(int(first[1][0]))
            return chr(int(first[1])) if str(first[0]) == "LITERAL" else "1"
        case "ANY" | "NOT_LITERAL":
            return "x"
    return ""


def status(server: Server, method: str, path: str, headers: dict[str, str]) -> int:
    """0 where the server closes the connection without a word, as some of its handlers do at a strange method."""
    try:
        return server.ask(method, path, headers=headers).status
    except http.client.RemoteDisconnected:
        return 0


@pytest.mark.parametrize("scheme", ["x-api-key", "Bearer", "token"])
def test_the_key_opens_the_api_and_sets_no_cookie(server: Server, scheme: str) -> None:
    key = key_of(server)
    headers = {"x-api-key": key} if scheme == "x-api-key" else {"Authorization": f"{scheme} {key}"}
    for path in ("v1/messages", "nbllama/v1/messages"):
        answer = server.ask("POST", path, message("hi"), headers)
        assert (answer.status, answer.json["type"]) == (200, "message")
        assert "set-cookie" not in answer.headers


def test_the_key_opens_no_other_route_of_the_table(server: Server) -> None:
    key = key_of(server)
    paths = paths_of(server)
    ours = [path for path in paths if API.match(path)]
    others = [path.removeprefix(BASE_URL) for path in paths if path.startswith(BASE_URL) and path not in ours]
    others = [path for path in others if not path.startswith(SILENT)]
    assert len(ours) >= 4
    assert {"api/kernels", "api/sessions", "nbllama/status"} <= set(others)
    assert any(path.startswith("api/contents") for path in others)
    for path in others:
        for method in METHODS:
            refused = status(server, method, path, {"Authorization": "Bearer guess"})
            for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
                assert status(server, method, path, headers) == refused, (method, path)
        in_query = [status(server, "GET", f"{path}?token={value}", {}) for value in (key, "guess")]
        assert in_query[0] == in_query[1], path
    # The same requests with Jupyter's token are told from those with the key.
    for path in ("api/kernels", "api/sessions", "api/contents", "nbllama/status"):
        assert server.ask("GET", path, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
        assert server.ask("GET", path, headers={"Authorization": f"Bearer {key}"}).status in (401, 403)


def test_a_rotated_key_is_refused_by_the_server_that_runs(server: Server) -> None:
    old = key_of(server)
    new = key_of(server, "--rotate")
    assert server.ask("GET", "v1/models", headers={"x-api-key": old}).status == 401
    assert server.ask("GET", "v1/models", headers={"x-api-key": new}).status == 200


def test_the_key_survives_restarts(server: Server) -> None:
    assert key_of(server) == (Path(server.folder) / "data" / "nbllama" / "key").read_text().strip()
