"""The three doors on one worker with a scripted model: its own socket, `nbllama serve`, and a Jupyter server."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbllama.server.handlers import routes as jupyter_routes
from nbllama.wire.sse import Decoder
from nbllama.worker.door import new_door
from nbllama.worker.link import WorkerLink
from nbllama.worker.routes import routes as worker_routes
from tests.cli.test_serve import Place
from tests.server.test_jupyter_server import BASE_URL, TOKEN, jupyter
from tests.whole.raw_http import Door, read_answer

PLACES = {"(.+)": "x", "([^/]+)": "x", "(?:api/hello)?": "api/hello", "(?:/(?P<model>[^/]+))?": "/x", "(?:/.*)?": "/x"}
PLACES |= {
    "/(?:nbllama/)?v1/.+": "/v1/nothing",
    "(?P<path>/.+)": "/traces",
    "/(?:v1|nbllama)/.+": "/v1/nothing",
    ".*": "favicon.ico",
}
WORDS = "one two three four five six seven eight"


def example(pattern: str) -> str:
    """A path that the pattern of a route matches. Fails for a pattern that nobody has said an example of."""
    path = pattern.removesuffix("$")
    for part, value in PLACES.items():
        path = path.replace(part, value)
    path = path if path.startswith("/") else f"/{path}"
    assert re.fullmatch(pattern, path) or re.fullmatch(pattern, path[1:]), f"no example for {pattern}: add one"
    return path


def worker_paths() -> list[str]:
    return [example(pattern) for pattern, _ in worker_routes()]


def jupyter_paths() -> list[str]:
    return [example(pattern) for pattern, _ in jupyter_routes("")]


def serve_paths() -> list[str]:
    """What the door's own table says, and what it relays to."""
    server: Any = new_door(WorkerLink(lambda: None, kind="serve"), "t")  # type: ignore[arg-type,return-value]
    rules = server.request_callback.wildcard_router.rules
    patterns = [rule.matcher.regex.pattern.removesuffix("$") for rule in rules]
    own = [example(pattern) for pattern in patterns]
    return list(dict.fromkeys(["/", *own, *worker_paths()]))


@dataclass(frozen=True)
class Doors:
    worker: Door
    serve: Door
    jupyter: Door
    pid: int
    logs: list[Any]

    def __getitem__(self, name: str) -> Door:
        door: Door = getattr(self, name)
        return door


@contextlib.contextmanager
def open_doors() -> Iterator[Doors]:
    with jupyter() as server:
        assert server.ask("POST", "v1/messages", ask("hi")).status == 200
        place = Place(server.folder)
        try:
            _, _, port = place.open("--token", "t", "--model", f"scripted:{server.folder / 'script.json'}")
            info = json.loads(server.connection_file.read_text())
            logs = [server.folder / "log", *server.connection_file.parent.glob("*.log")]
            yield Doors(
                worker=Door(info["socket"]),
                serve=Door(("127.0.0.1", port), "x-api-key: t\r\n"),
                jupyter=Door(("127.0.0.1", server.port), f"x-api-key: {TOKEN}\r\n", BASE_URL.rstrip("/")),
                pid=info["pid"],
                logs=logs,
            )
        finally:
            place.close()


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 4000, "messages": [{"role": "user", "content": text}], **fields}


def worker_pid(doors: Doors) -> int:
    return int(doors.worker.send(doors.worker.head("GET", "/nbllama/handshake")).json["pid"])


class Neighbour:
    """A stream through the same door, which must come as if it were alone."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._received = b""
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        body = json.dumps(ask("count", stream=True)).encode()
        self._connection = self._door.connect()
        head = self._door.head("POST", "/v1/messages", f"Content-Length: {len(body)}")
        self._connection.sendall(head + body)
        self._received = self._connection.recv(1 << 16)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._thread.join()
        self._connection.close()
        if error[0] is None:
            assert self.text == WORDS

    @property
    def text(self) -> str:
        body = b"".join(unchunked(self._received.partition(b"\r\n\r\n")[2]))
        events = [json.loads(event.data) for event in Decoder().feed(body)]
        assert events[-1]["type"] == "message_stop", events[-1]
        return "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta")

    def _read(self) -> None:
        self._received += read_answer(self._connection)


def unchunked(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        yield body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
