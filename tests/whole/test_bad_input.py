"""Bad input on every route of every door: an answer in the API's shape, the worker alive, the neighbour untouched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole.doors import Doors, Neighbour, ask, jupyter_paths, open_doors, serve_paths, worker_paths, worker_pid
from tests.whole.raw_http import Door, Reply, read_answer

PATHS = {"worker": worker_paths(), "serve": serve_paths(), "jupyter": jupyter_paths()}
MARK = "xyzzy-of-the-user"
REFUSED = (400, 401, 403, 404, 405, 413, 415)
BODIES = {
    "nothing": b" ",
    "no JSON": f"{MARK} is no JSON".encode(),
    "a number": b"1",
    "a list": b"[1, 2]",
    "null": b"null",
    "nested brackets": b"[" * 100_000,
    "nested brackets in a field": b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"a":' * 100_000,
    "bad UTF-8": b'{"model": "\xff\xfe", "text": "\xff"}',
    "surrogates": b'{"model": "\\ud800", "text": "\\ud800", "messages": [{"role": "user", "content": "\\udfff"}]}',
    "an infinite number": b'{"model": "x", "ctx": 1e999, "max_tokens": 1e999}',
    "wrong types": b'{"model": {"a": []}, "text": 5, "messages": {"role": []}, "max_tokens": "many", "stream": 7}',
    "half": b'{"model": "x", "messa',
}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with open_doors() as doors:
        yield doors


def check_alive(doors: Doors) -> None:
    assert worker_pid(doors) == doors.pid


@pytest.mark.parametrize("name", PATHS)
def test_bodies_that_are_no_request(doors: Doors, name: str) -> None:
    door = doors[name]
    with Neighbour(door):
        for path in PATHS[name]:
            for what, body in BODIES.items():
                if path == "/nbllama/stop" and what in ("wrong types",):
                    continue  # an object: it would be obeyed
                reply = door.post(path, body)
                assert reply.status in REFUSED, (path, what, reply.raw[:300])
                reply.check(*REFUSED)
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
def test_methods_that_are_none(doors: Doors, name: str) -> None:
    door = doors[name]
    for path in PATHS[name]:
        for method in ("BREW", "TRACE", "PUT", "DELETE", "PATCH", "PROPFIND"):
            door.post(path, b"", method=method).check(404, 405)
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("path", ["batches", "batches/b", "batches/b/cancel", "batches/b/results", "../files"])
def test_batches_and_files_are_404(doors: Doors, name: str, path: str) -> None:
    path = f"/v1/messages/{path}".replace("/messages/../", "/")
    for method in ("GET", "POST", "DELETE"):
        reply = doors[name].post(path, b"{}", method=method)
        reply.check(404)
        assert reply.json["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("name", PATHS)
def test_a_body_of_40_mb(doors: Doors, name: str) -> None:
    door, body = doors[name], b'{"model": "' + b"x" * 40_000_000
    with Neighbour(door):
        reply = door.post("/v1/messages", body)
        reply.check(413)
        assert reply.json["error"]["type"] == "request_too_large"
        head = door.head("POST", "/v1/messages", "Transfer-Encoding: chunked")
        chunks = b"".join(b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20)) for _ in range(40))
        reply = door.send(head + chunks + b"0\r\n\r\n")
        reply.check(413)
        assert reply.json["error"]["type"] == "request_too_large"
    check_alive(doors)


LIES = {
    "negative": ("Content-Length: -5",),
    "no number": ("Content-Length: many",),
    "two": ("Content-Length: 3", "Content-Length: 5"),
    "with chunks": ("Content-Length: 3", "Transfer-Encoding: chunked"),
    "unknown coding": ("Transfer-Encoding: gzip, chunked",),
    "no chunk": ("Transfer-Encoding: chunked",),
    "a long number": ("Content-Length: " + "9" * 5000,),
    "bad header": ("no colon here",),
    "many headers": tuple(f"x-{i}: y" for i in range(3000)),
    "NUL": ("x-a: \0",),
}


@pytest.mark.parametrize("name", ["worker", "serve"])
@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_http(doors: Doors, name: str, lie: str) -> None:
    door = doors[name]
    with Neighbour(door):
        reply = door.send(door.head("POST", "/v1/messages", *LIES[lie]) + b"{}\r\n\r\n")
        reply.check(*REFUSED)
        door.send(b"\x16\x03\x01 TLS\r\n\r\n").check(400)
        door.send(door.head("GET", "/v1/models", version="9.9")).check(400)
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
def test_jupyter_survives_lies_too(doors: Doors, name: str) -> None:
    """The Jupyter server reads its HTTP itself: whatever it says to these, it and the worker live on."""
    door = doors[name]
    with Neighbour(door):
        for lines in LIES.values():
            door.send(door.head("POST", "/v1/messages", *lines) + b"{}\r\n\r\n")
        # Headers above the limit: Tornado closes without a word.
        assert door.send(door.head("GET", "/v1/models", "x-large: " + "y" * 300_000)).status in (0, 400, 431)
        door.send(door.head("GET", "/v1/models?limit=" + "9" * 1_000_000))
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
def test_half_open_and_idle_connections(doors: Doors, name: str) -> None:
    door = doors[name]
    with Neighbour(door):
        for path in PATHS[name]:
            with door.connect() as connection:
                connection.sendall(door.head("POST", path, "Content-Length: 1000") + b'{"model": ')
        idle = [door.connect() for _ in range(200)]
        for connection in idle[::2]:
            connection.sendall(b"POST /v1/mess")
        body = json.dumps(ask("hi")).encode()
        door.post("/v1/messages", body).check(200)
        for connection in idle:
            connection.close()
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
def test_a_body_that_comes_byte_by_byte_is_answered(doors: Doors, name: str) -> None:
    door, body = doors[name], json.dumps(ask("hi")).encode()
    with door.connect() as connection:
        connection.sendall(door.head("POST", "/v1/messages", f"Content-Length: {len(body)}"))
        for byte in body:
            connection.sendall(bytes([byte]))
        Reply(read_answer(connection)).check(200)


@pytest.mark.parametrize("name", PATHS)
def test_strange_ids_and_addresses(doors: Doors, name: str) -> None:
    door = doors[name]
    for path in ("/v1/models/", "/nbllama/traces/"):
        for id in ("..%2F..%2Fetc%2Fpasswd", "%00", "%ff%fe", "%2e%2e", "a" * 30_000, "%", "%zz", "%0d%0ax-a:b"):
            reply = door.send(door.head("GET", path + id))
            reply.check(400, 404)
            assert b"root:" not in reply.raw and b"\r\nx-a:" not in reply.raw.lower()
    door.send(door.head("GET", "/v1/models", version="1.0")).check(200)
    door.send(door.head("GET", "/v1/models?limit=" + "9" * 5000)).check(400, 200)
    door.send(door.head("GET", "/v1/models?limit=%ff&limit=%00")).check(400)
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    "type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "ä/ö;="]
)
def test_the_content_type_changes_nothing(doors: Doors, name: str, type: str) -> None:
    body = json.dumps(ask("hi")).encode()
    reply = doors[name].post("/v1/messages", body, f"Content-Type: {type}")
    # Jupyter's server parses forms by itself, before any handler is asked.
    reply.check(200) if "multipart" not in type or name == "serve" else reply.check(200, 400, bodiless=True)


@pytest.mark.parametrize("name", PATHS)
def test_nul_and_private_characters_are_text(doors: Doors, name: str) -> None:
    body = json.dumps(ask("a\0b \U000f0000 \ufffe")).encode()
    doors[name].post("/v1/messages", body).check(200, 400)


def test_nul_reaches_the_prompt_as_it_was_sent(doors: Doors) -> None:
    for name in PATHS:
        text = f"NUL for {name}: a\0b\0\0 \U000f0000 \ufffe \x1b[0m"
        reply = doors[name].post("/v1/messages", json.dumps(ask(text)).encode())
        reply.check(200)
        trace = doors.worker.post(f"/nbllama/traces/{reply.headers['request-id']}", b"", method="GET").json
        assert text in trace["prompt"]
        assert trace["request"]["messages"][0]["content"] == text


def peak_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak of a process from")
def test_bodies_of_40_mb_are_not_kept(doors: Doors) -> None:
    doors.worker.post("/v1/messages", b'{"model": "' + b"x" * 40_000_000).check(413)
    before = peak_bytes(doors.pid)
    for name in PATHS:
        doors[name].post("/v1/messages", b'{"model": "' + b"x" * 40_000_000).check(413)
    idle = [doors.worker.connect() for _ in range(4)]
    for connection in idle:
        connection.sendall(doors.worker.head("POST", "/v1/messages", "Content-Length: 400000000"))
        connection.sendall(b"x" * 60_000_000)
    # One at a time is 32 MB and what a growing buffer costs; those above the limit hold nothing.
    assert peak_bytes(doors.pid) - before < 40_000_000
    for connection in idle:
        connection.close()
    check_alive(doors)


@pytest.mark.parametrize("name", PATHS)
def test_clients_that_announce_much_and_stay_silent(doors: Doors, name: str) -> None:
    door = doors[name]
    with Neighbour(door):
        silent = [door.connect() for _ in range(20)]
        for n, connection in enumerate(silent):
            length = (1000, 32 << 20, 100 << 20, 10**15)[n % 4]
            connection.sendall(door.head("POST", "/v1/messages", f"Content-Length: {length}"))
        door.post("/v1/messages", json.dumps(ask("hi")).encode()).check(200)
        if name == "serve":
            # Refused unread, without waiting for what will never come.
            Reply(read_answer(silent[3])).check(413)
        for connection in silent:
            connection.close()
    check_alive(doors)


def test_logs_hold_nothing_that_a_user_wrote(doors: Doors) -> None:
    door: Door = doors.worker
    for name in PATHS:
        doors[name].post("/v1/messages", BODIES["no JSON"]).check(400)
        doors[name].post("/v1/messages", json.dumps(ask(MARK)).encode()).check(200)
    assert door.address
    for log in doors.logs:
        assert MARK not in log.read_text(errors="replace")
        assert "Traceback" not in log.read_text(errors="replace")
