"""Every route of every door without a key, with a wrong one, and with what looks like one."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.test_serve import Place
from tests.server.test_jupyter_server import BASE_URL, TOKEN, Server, jupyter, worker_pid
from tests.whole.doors import Doors, ask, example, jupyter_paths, open_doors, serve_paths, worker_paths
from tests.whole.raw_http import Door, Reply

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
KEYS = {
    "none": "",
    "wrong": "x-api-key: guess\r\n",
    "empty": "x-api-key: \r\nAuthorization: Bearer \r\n",
    "another scheme": "Authorization: Basic {key}\r\n",
    "no scheme": "Authorization: {key}\r\n",
    "a forged client": "nbllama-client: local\r\nnbllama-secret: {key}\r\n",
    "the key in a cookie": "Cookie: token={key}; x-api-key={key}; _xsrf=1\r\nX-XSRFToken: 1\r\n",
    "part of the key": "x-api-key: {key_but_one}\r\n",
    "the key and more": "x-api-key: {key}{key}\r\n",
    "the key in Latin": "x-api-key: \xe9\xff\r\n",
}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with open_doors() as doors:
        yield doors


def shut_out(door: Door, path: str, method: str, key: str, opening: str) -> None:
    opening = opening.replace("{key_but_one}", key[:-1] or "x").replace("{key}", key)
    reply = door.post(path, b"{}" if method == "POST" else b"", method=method, key=opening)
    reply.check(401, 403, 405, bodiless=method == "HEAD")
    if method in ("GET", "POST"):
        assert reply.status != 405 or "Method" in reply.json["error"]["message"], reply.raw


@pytest.mark.parametrize("opening", KEYS)
def test_serve_lets_nobody_in(doors: Doors, opening: str) -> None:
    for path in serve_paths():
        for method in METHODS:
            if method == "HEAD" and path in ("/", "/api/hello"):
                continue  # documented as open: it says 200 and starts nothing
            shut_out(doors.serve, path, method, "t", KEYS[opening])


@pytest.mark.parametrize("opening", [name for name in KEYS if name != "no scheme"])
def test_jupyter_lets_nobody_in(doors: Doors, opening: str) -> None:
    for path in jupyter_paths():
        for method in METHODS:
            shut_out(doors.jupyter, path, method, TOKEN, KEYS[opening])


def test_a_worker_on_tcp_lets_nobody_in_without_its_secret() -> None:
    import tempfile
    from pathlib import Path

    class TcpPlace(Place):
        @property
        def environment(self) -> dict[str, str]:
            return super().environment | {"NBLLAMA_TRANSPORT": "tcp"}

    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        place = TcpPlace(Path(folder))
        try:
            place.open("--model", "scripted:first.json", "--token", "t")
            info = json.loads((place.folder / "run" / "nbllama-p1.json").read_text())
            door = Door(("127.0.0.1", info["port"]))
            for path in [*worker_paths(), "/nowhere"]:
                for method in METHODS:
                    for opening in ("", "nbllama-secret: guess\r\n", "nbllama-secret: \xe9\r\n", "x-api-key: t\r\n"):
                        door.post(path, b"", method=method, key=opening).check(401, bodiless=method == "HEAD")
            door.post("/nbllama/status", b"", method="GET", key=f"nbllama-secret: {info['secret']}\r\n").check(200)
        finally:
            place.close()


def test_a_query_opens_only_where_jupyter_says_so(doors: Doors) -> None:
    for name, key, status in (("serve", "t", 401), ("jupyter", TOKEN, 200)):
        doors[name].post(f"/v1/models?token={key}", b"", method="GET", key="").check(status)
        doors[name].post("/v1/models?token=guess", b"", method="GET", key="").check(401, 403)


def test_those_who_may_not_ask_start_no_worker() -> None:
    with jupyter() as server:
        door = Door(("127.0.0.1", server.port), prefix=BASE_URL.rstrip("/"))
        for path in jupyter_paths():
            for method in METHODS:
                for opening in KEYS.values():
                    door.post(path, b"{}", method=method, key=opening.replace("{key", "{nokey"))
        assert worker_pid(server) is None
        assert not_started(server)


def not_started(server: Server) -> bool:
    return not list((server.folder / "run").glob("*.sock"))


def as_client(name: str) -> str:
    return f"nbllama-client: {name}\r\n"


def post(door: Door, path: str, body: dict[str, Any] | None, key: str, method: str = "POST") -> Any:
    return door.post(path, json.dumps(body).encode() if body else b"", method=method, key=key)


def test_traces_are_their_clients_own(doors: Doors) -> None:
    reply = post(doors.worker, "/v1/messages", ask("of alice"), as_client("alice"))
    id, message_id = reply.headers["request-id"], reply.json["id"]
    for one in (id, message_id):
        post(doors.worker, f"/nbllama/traces/{one}", None, as_client("alice"), "GET").check(200)
        post(doors.worker, f"/nbllama/traces/{one}", None, as_client("bob"), "GET").check(404)
        for name in ("serve", "jupyter"):
            # Who comes through a door cannot say who he is.
            key = doors[name].headers + as_client("alice")
            post(doors[name], f"/nbllama/traces/{one}", None, key, "GET").check(404)
            listed = post(doors[name], "/nbllama/traces", None, key, "GET")
            listed.check(200)
            assert id not in listed.body.decode()


@pytest.mark.parametrize("name", ["worker", "serve", "jupyter"])
def test_running_requests_are_their_clients_own(doors: Doors, name: str) -> None:
    with held(doors[name], "") as mine, held(doors.worker, as_client("alice")) as others:
        assert listed_by(doors[name], "") == [mine]
        assert listed_by(doors.worker, as_client("alice")) == [others]
        for who in (doors[name].headers, doors[name].headers + as_client("alice"))[: 1 if name == "worker" else 2]:
            post(doors[name], f"/nbllama/requests/{others}/cancel", None, who).check(404)
            assert listed_by(doors.worker, as_client("alice")) == [others]
        post(doors[name], f"/nbllama/requests/{mine}/cancel", None, doors[name].headers).check(200)
        post(doors.worker, f"/nbllama/requests/{others}/cancel", None, as_client("bob")).check(404)
        post(doors.worker, f"/nbllama/requests/{others}/cancel", None, as_client("alice")).check(200)
    trace = post(doors.worker, f"/nbllama/traces/{mine}", None, "", "GET")
    assert trace.json["ending"] == "cancelled"


@contextlib.contextmanager
def held(door: Door, who: str) -> Iterator[str]:
    """The id of a request that runs for long; at the end it must have been ended in one event by somebody else."""
    body = json.dumps(ask("for ever", stream=True)).encode()
    with door.connect() as connection:
        connection.sendall(door.head("POST", "/v1/messages", f"Content-Length: {len(body)}", key=door.headers + who))
        connection.sendall(body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1 << 16)
        yield Reply(received).headers["request-id"]
        while piece := connection.recv(1 << 16):
            received += piece
    assert received.count(b"event: error") == 1 and b"message_stop" not in received
    assert received.count(b"the request was cancelled") == 1


def listed_by(door: Door, who: str) -> list[str]:
    reply = post(door, "/nbllama/requests", None, door.headers + who, "GET")
    reply.check(200)
    return [request["id"] for request in reply.json["requests"]]


def test_a_cookie_alone_opens_no_post_of_jupyters(doors: Doors) -> None:
    """A page of another site sends the user's cookies with its form: without the XSRF token, nothing is done."""
    door = doors.jupyter
    first = door.post(f"/login?token={TOKEN}", b"", method="GET", key="")
    login = re.findall(r"^Set-Cookie: (username-[^;]+)", first.raw.decode("latin1"), re.MULTILINE | re.IGNORECASE)
    tree = door.post("/login", b"", method="GET", key="")
    xsrf = re.findall(r"^Set-Cookie: _xsrf=([^;]+)", tree.raw.decode("latin1"), re.MULTILINE | re.IGNORECASE)
    assert login and xsrf
    cookies = f"Cookie: {'; '.join([*login, f'_xsrf={xsrf[0]}'])}\r\n"
    for path in [*jupyter_paths(), *(path for path in worker_paths() if path.startswith("/nbllama/"))]:
        if path == "/nbllama/stop":
            continue  # let in, it would be obeyed
        for forged in ("", "X-XSRFToken: guess\r\n", "Origin: http://evil.example\r\n"):
            # Jupyter says 404 to a foreign origin.
            door.post(path, b"{}", key=cookies + forged).check(404 if "Origin" in forged else 403)
        allowed = door.post(path, b"{}", key=f"{cookies}X-XSRFToken: {xsrf[0]}\r\n")
        assert allowed.status not in (401, 403), (path, allowed.raw[:300])
    door.post("/nbllama/stop", b"{}", key=cookies).check(403)


@pytest.mark.parametrize("name", ["serve", "jupyter"])
def test_a_whole_url_as_the_target_opens_nothing(doors: Doors, name: str) -> None:
    door = doors[name]
    for host in ("localhost", "evil.example", f"localhost:{door.address[1]}"):
        for path in ("/nbllama/status", "/v1/models", "/nbllama/traces"):
            for method in ("GET", "POST"):
                reply = door.post(f"http://{host}{door.prefix}{path}", b"", method=method, key="")
                assert reply.status in (401, 403, 404, 405), reply.raw[:300]
                assert b'"traces"' not in reply.raw and b'"models"' not in reply.raw


def test_a_route_that_the_sweep_cannot_reach_is_noticed() -> None:
    with pytest.raises(AssertionError, match="add one"):
        example(r"/v1/batches/(\d+)")
