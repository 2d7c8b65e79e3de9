"""The door of `nbllama serve`: who gets in, and what those who do not are told."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, RequestHandler

from nbllama.worker.connection import Endpoint
from nbllama.worker.door import Access, new_door, presented_keys
from nbllama.worker.link import WorkerLink

TOKEN = "t0ken-é"
LATIN = TOKEN.encode().decode("latin1")


class EchoHandler(RequestHandler):
    """A worker that says what it was asked."""

    async def run(self) -> None:
        if self.request.path == "/nbllama/attach":
            self.attached = asyncio.Event()
            await self.flush()
            await self.attached.wait()
        elif self.request.path == "/v1/missing":
            self.set_status(404)
            self.finish({"type": "error", "error": {"type": "not_found_error", "message": "the worker's"}})
        else:
            self.finish({"path": self.request.path, "key": self.request.headers.get("Authorization")})

    get = post = delete = run

    def on_connection_close(self) -> None:
        self.attached.set()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = json.loads(response.read() or b"null")


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def through_door(method: str, path: str, headers: dict[str, str], access: Access | str = TOKEN) -> tuple[Answer, int]:
    """The answer, and how often the worker was looked for."""
    looked_for: list[Endpoint] = []

    async def main(folder: str) -> Answer:
        path_of_socket = str(Path(folder) / "w.sock")
        worker = HTTPServer(Application([(r".*", EchoHandler)]))
        worker.add_socket(bind_unix_socket(path_of_socket))

        def ensure() -> Endpoint:
            looked_for.append(Endpoint("http://localhost", socket=path_of_socket, pid=1))
            return looked_for[-1]

        link = WorkerLink(ensure, kind="serve")
        door = new_door(link, access)
        sockets = bind_sockets(0, "127.0.0.1")
        door.add_sockets(sockets)
        try:
            return await asyncio.to_thread(ask, sockets[0].getsockname()[1], method, path, headers)
        finally:
            await link.close()
            for server in (door, worker):
                server.stop()
                await server.close_all_connections()

    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        return asyncio.run(main(folder)), len(looked_for)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": LATIN},
        {"Authorization": f"Bearer {LATIN}"},
        {"authorization": f"bearer {LATIN}"},
        {"x-api-key": "another", "Authorization": f"Bearer {LATIN}"},
        {"x-api-key": LATIN, "Authorization": "Basic of-a-proxy"},
    ],
)
def test_the_token_opens_in_either_header(headers: dict[str, str]) -> None:
    answer, _ = through_door("POST", "/v1/messages", headers)
    assert answer.status == 200
    assert answer.body == {"path": "/v1/messages", "key": None}


@pytest.mark.parametrize("path", ["/v1/messages", "/nbllama/status", "/v1/nothing", "/", "/nbllama/stop"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "guess"}, {"Authorization": "Bearer "}])
def test_without_the_token_nothing_is_asked_or_started(path: str, headers: dict[str, str]) -> None:
    answer, looked_for = through_door("POST", path, headers)
    assert answer.status == 401
    assert answer.headers["x-should-retry"] == "false"
    assert answer.body["error"]["type"] == "authentication_error"
    assert answer.body["request_id"] == answer.headers["request-id"]
    assert looked_for == 0


def test_a_query_does_not_open() -> None:
    answer, _ = through_door("GET", f"/v1/models?token={quote(TOKEN)}", {})
    assert answer.status == 401


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models", "/v1/models"),
        ("POST", "/nbllama/v1/messages", "/v1/messages"),
        ("GET", "/nbllama/traces/req_1", "/nbllama/traces/req_1"),
        ("GET", "/nbllama/traces/req_1/tokens", "/nbllama/traces/req_1/tokens"),
    ],
)
def test_routes_are_the_workers(method: str, path: str, expected: str) -> None:
    answer, _ = through_door(method, path, {"x-api-key": LATIN})
    assert answer.body["path"] == expected


def test_unknown_paths_have_anthropics_shape() -> None:
    answer, _ = through_door("GET", "/v1/missing", {"x-api-key": LATIN})
    assert (answer.status, answer.body["error"]["message"]) == (404, "the worker's")
    answer, looked_for = through_door("GET", "/favicon.ico", {"x-api-key": LATIN})
    assert (answer.status, answer.body["error"]["type"], looked_for) == (404, "not_found_error", 0)


def test_a_wrong_method_has_anthropics_shape() -> None:
    answer, _ = through_door("OPTIONS", "/v1/messages", {"x-api-key": LATIN})
    assert (answer.status, answer.body["error"]["type"]) == (405, "invalid_request_error")


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_a_warm_up_needs_no_key_and_starts_nothing(path: str) -> None:
    answer, looked_for = through_door("HEAD", path, {})
    assert (answer.status, looked_for) == (200, 0)


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a token"):
        new_door(WorkerLink(lambda: Endpoint("http://localhost"), kind="serve"), "")


def test_presented_keys() -> None:
    assert presented_keys("a", "Bearer b") == [b"a", b"b"]
    assert presented_keys(None, "token  b ") == [b"b"]
    assert presented_keys("", "Basic b") == []
    assert presented_keys(None, None) == []


KEY = {"x-api-key": "the-key"}
WITH_KEY = Access(
    TOKEN,
    key_opens=lambda keys: b"the-key" in keys,
    hosts=frozenset({"gpu.example"}),
    origins=frozenset({"https://a.example"}),
)


@pytest.mark.parametrize("path", ["/v1/messages", "/nbllama/v1/messages"])
def test_the_key_opens_the_api(path: str) -> None:
    answer, _ = through_door("POST", path, KEY, WITH_KEY)
    assert (answer.status, answer.body["path"]) == (200, "/v1/messages")


@pytest.mark.parametrize(
    "path", ["/nbllama/status", "/nbllama/stop", "/nbllama/traces/v1/x", "/", "/v1", "/favicon.ico"]
)
def test_the_key_opens_nothing_else(path: str) -> None:
    answer, looked_for = through_door("POST", path, KEY, WITH_KEY)
    assert (answer.status, answer.body["error"]["type"], looked_for) == (403, "permission_error", 0)


@pytest.mark.parametrize("path", ["/v1/../nbllama/stop", "/v1/%2e%2e/nbllama/stop", "/v1//nbllama/stop"])
def test_no_path_leads_from_the_api_to_the_workers_own_routes(path: str) -> None:
    answer, _ = through_door("POST", path, KEY, WITH_KEY)
    assert answer.body["path"] == path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "HEAD"])
def test_a_foreign_host_is_refused(host: str, method: str) -> None:
    answer, looked_for = through_door(method, "/v1/messages", {"x-api-key": LATIN, "Host": host}, WITH_KEY)
    assert (answer.status, looked_for) == (403, 0)


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST.", "127.0.0.1", "127.1.2.3:80", "[::1]:8010", "gpu.example:99"]
)
def test_names_of_our_own_are_let_in(host: str) -> None:
    answer, _ = through_door("POST", "/v1/messages", {"x-api-key": LATIN, "Host": host}, WITH_KEY)
    assert answer.status == 200


def cors(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key,x-stainless-os,x-other",
}


@pytest.mark.parametrize("headers", [{}, {"x-api-key": LATIN}, PREFLIGHT, PREFLIGHT | {"x-api-key": LATIN}])
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_no_origin_is_reflected(headers: dict[str, str], method: str) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:8888", "https://a.example.evil"):
        answer, _ = through_door(method, "/v1/models", headers | {"Origin": origin}, WITH_KEY)
        assert not cors(answer)
        assert method == "GET" or answer.status in (401, 405)


def test_a_named_origin_may_ask_and_still_needs_a_key() -> None:
    origin = {"Origin": "https://a.example"}
    answer, looked_for = through_door("OPTIONS", "/v1/messages", PREFLIGHT | origin, WITH_KEY)
    assert (answer.status, looked_for) == (204, 0)
    names = cors(answer)["access-control-allow-headers"].split(", ")
    assert {"x-api-key", "authorization", "anthropic-version", "anthropic-beta", "content-type"} < set(names)
    assert {"x-stainless-os", "anthropic-dangerous-direct-browser-access"} < set(names)
    assert "x-other" not in names
    refused, _ = through_door("POST", "/v1/messages", origin, WITH_KEY)
    assert (refused.status, cors(refused)["access-control-allow-origin"]) == (401, "https://a.example")
    answer, _ = through_door("POST", "/v1/messages", origin | KEY, WITH_KEY)
    assert (answer.status, cors(answer)["access-control-allow-origin"]) == (200, "https://a.example")
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
