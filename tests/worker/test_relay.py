"""The relay against a small worker of its own on a Unix socket: one event loop, ordered by events, not clocks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, RequestHandler

from nbllama.worker.connection import Endpoint
from nbllama.worker.errors import WorkerError
from nbllama.worker.link import MAX_BODY, WorkerLink
from nbllama.worker.relay import WholeEvents, request_headers

PATIENCE = 20.0
START = b'event: message_start\ndata: {"type":"message_start"}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"full"}}\n\n'

Script = Callable[["WorkerHandler"], Awaitable[None]]


class WorkerHandler(RequestHandler):
    """Does what the test's script says; `closed` is set when the relay leaves."""

    def initialize(self, script: Script) -> None:
        self.script = script
        self.closed = asyncio.Event()

    async def run(self) -> None:
        if self.request.path == "/nbllama/attach":
            await self.flush()
            await self.closed.wait()
        else:
            await self.script(self)

    get = post = run

    def on_connection_close(self) -> None:
        self.closed.set()

    async def start_stream(self) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("request-id", "req_worker")
        await self.flush()

    async def send(self, data: bytes) -> None:
        self.write(data)
        await self.flush()

    def die(self) -> None:
        self.detach().close()


class Front(RequestHandler):
    def initialize(self, link: WorkerLink) -> None:
        self.link = link

    async def run(self) -> None:
        await self.link.relay(self, self.request.path)

    get = post = run


@dataclass
class Answer:
    """A client's connection; parsed by hand, so that a test sees what came and when."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    async def read_head(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        return self

    async def chunk(self) -> bytes:
        """One HTTP chunk; b"" is the regular end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def body(self) -> bytes:
        if "content-length" in self.headers:
            return await self.reader.readexactly(int(self.headers["content-length"]))
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    def leave(self) -> None:
        self.writer.transport.abort()


class Bench:
    """A door before a worker, and the clients that came to it."""

    def __init__(self, ensure: Callable[[], Endpoint]) -> None:
        self.link = WorkerLink(ensure, kind="serve")
        self._front = HTTPServer(Application([(r".*", Front, {"link": self.link})]), max_body_size=2 * MAX_BODY)
        sockets = bind_sockets(0, "127.0.0.1")
        self._front.add_sockets(sockets)
        self._port = sockets[0].getsockname()[1]
        self._clients: list[Answer] = []

    async def send(
        self, path: str = "/v1/messages", *, method: str = "POST", body: bytes = b"{}", headers: str = ""
    ) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        self._clients.append(Answer(reader, writer))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        return self._clients[-1]

    async def ask(self, path: str = "/v1/messages", **options: Any) -> Answer:
        return await (await self.send(path, **options)).read_head()

    async def close(self) -> None:
        for client in self._clients:
            client.leave()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        await self.link.close()
        await close(self._front)


@contextlib.asynccontextmanager
async def bench(script: Script) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
        path = str(Path(folder) / "w.sock")
        worker = listen(script, path)
        running = Bench(lambda: Endpoint("http://localhost", socket=path, pid=1))
        try:
            yield running
        finally:
            await running.close()
            await close(worker)


async def close(server: HTTPServer) -> None:
    server.stop()
    await server.close_all_connections()


def listen(script: Script, path: str) -> HTTPServer:
    worker = HTTPServer(Application([(r".*", WorkerHandler, {"script": script})]))
    worker.add_socket(bind_unix_socket(path))
    return worker


def run(script: Script, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench(script) as running:
            await asyncio.wait_for(test(running), PATIENCE)

    asyncio.run(main())


def events(data: bytes) -> list[str]:
    return [line[7:].decode() for line in data.split(b"\n") if line.startswith(b"event: ")]


def test_each_event_arrives_before_the_next_is_made() -> None:
    seen = [asyncio.Event() for _ in range(5)]

    async def script(worker: WorkerHandler) -> None:
        await worker.start_stream()
        for event in seen:
            await worker.send(DELTA)
            await event.wait()
        await worker.send(STOP)

    async def test(running: Bench) -> None:
        answer = await running.ask()
        assert answer.headers["request-id"] == "req_worker"
        assert "content-length" not in answer.headers
        for event in seen:
            assert await answer.chunk() == DELTA
            event.set()
        assert await answer.body() == STOP

    run(script, test)


@pytest.mark.parametrize("headers_first", [True, False])
def test_a_silent_stream_is_cancelled_when_its_client_leaves(headers_first: bool) -> None:
    working: asyncio.Queue[WorkerHandler] = asyncio.Queue()

    async def script(worker: WorkerHandler) -> None:
        if headers_first:
            await worker.start_stream()
        working.put_nowait(worker)
        await worker.closed.wait()

    async def test(running: Bench) -> None:
        answer = await running.send()
        worker = await working.get()
        if headers_first:
            await answer.read_head()
        answer.leave()
        await worker.closed.wait()
        while running.link.running:
            await asyncio.sleep(0)

    run(script, test)


def test_a_slow_reader_holds_back_its_own_stream_and_no_other() -> None:
    block = b"event: content_block_delta\ndata: " + b"x" * 100_000 + b"\n\n"
    count, sent = 600, []

    async def script(worker: WorkerHandler) -> None:
        await worker.start_stream()
        for _ in range(count if worker.request.body == b"flood" else 1):
            await worker.send(block)
            sent.append(worker.request.body)
        await worker.send(STOP)

    async def test(running: Bench) -> None:
        slow = await running.ask(body=b"flood")
        for _ in range(3):
            quick = await running.ask(body=b"quick")
            assert events(await quick.body()) == ["content_block_delta", "message_stop"]
        # What fits into the sockets' buffers is sent, the rest waits for the reader.
        seen = -1
        while seen < (seen := len(sent)):
            await asyncio.sleep(0.1)
        assert sent.count(b"flood") < count
        assert len(await slow.body()) == count * len(block) + len(STOP)
        assert sent.count(b"flood") == count

    run(script, test)


@pytest.mark.parametrize("half", [DELTA[:40], STOP[:-1], b""])
@pytest.mark.parametrize("killed", [True, False])
def test_a_worker_that_ends_mid_stream_leaves_one_error_event(half: bytes, killed: bool) -> None:
    seen = asyncio.Event()

    async def script(worker: WorkerHandler) -> None:
        await worker.start_stream()
        await worker.send(START + DELTA + half)
        await seen.wait()
        if killed:
            worker.die()

    async def test(running: Bench) -> None:
        answer = await running.ask()
        assert await answer.chunk() == START + DELTA
        seen.set()
        rest = await answer.body()
        assert events(rest) == ["error"]
        error = json.loads(rest.removeprefix(b"event: error\ndata: "))
        assert error["error"]["type"] == "api_error"
        assert error["request_id"] == "req_worker"

    run(script, test)


@pytest.mark.parametrize("last", [STOP, ERROR])
def test_nothing_follows_a_terminal_event(last: bytes) -> None:
    seen = asyncio.Event()

    async def script(worker: WorkerHandler) -> None:
        await worker.start_stream()
        await worker.send(START + last + DELTA)
        await seen.wait()
        await worker.send(DELTA)
        worker.die()

    async def test(running: Bench) -> None:
        answer = await running.ask()
        assert await answer.chunk() == START + last
        seen.set()
        assert await answer.body() == b""

    run(script, test)


def test_a_worker_that_ends_before_the_headers_is_a_json_500() -> None:
    async def script(worker: WorkerHandler) -> None:
        worker.die()

    async def test(running: Bench) -> None:
        answer = await running.ask()
        error = json.loads(await answer.body())
        assert answer.status == 500
        assert answer.headers["content-type"].startswith("application/json")
        assert error["error"]["type"] == "api_error"
        assert error["request_id"] == answer.headers["request-id"]

    run(script, test)


@pytest.mark.parametrize("headers_first", [True, False])
def test_a_door_that_closes_ends_its_answers(headers_first: bool) -> None:
    working: asyncio.Queue[WorkerHandler] = asyncio.Queue()

    async def script(worker: WorkerHandler) -> None:
        if headers_first:
            await worker.start_stream()
        working.put_nowait(worker)
        await worker.closed.wait()

    async def test(running: Bench) -> None:
        answer = await running.send()
        worker = await working.get()
        if headers_first:
            await answer.read_head()
        await running.link.close()
        await worker.closed.wait()
        if headers_first:
            assert events(await answer.body()) == ["error"]
        else:
            assert (await answer.read_head()).status == 500

    run(script, test)


@pytest.mark.parametrize("length", ["100", None])
def test_a_cut_json_answer_breaks_the_connection(length: str | None) -> None:
    async def script(worker: WorkerHandler) -> None:
        worker.set_header("Content-Type", "application/json")
        if length is not None:
            worker.set_header("Content-Length", length)
        await worker.send(b'{"half":')
        worker.die()

    async def test(running: Bench) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await (await running.ask()).body()

    run(script, test)


def test_an_answer_above_tornados_own_limit_passes_whole() -> None:
    block, count = b"y" * (1 << 20), 200

    async def script(worker: WorkerHandler) -> None:
        worker.set_header("Content-Length", str(len(block) * count))
        for _ in range(count):
            await worker.send(block)

    async def test(running: Bench) -> None:
        answer = await running.ask("/nbllama/traces/req_1", method="GET", body=b"")
        left = int(answer.headers["content-length"])
        assert left == len(block) * count
        while left:
            piece = await answer.reader.read(min(left, 1 << 20))
            assert piece, f"cut {left} bytes before the end"
            left -= len(piece)

    run(script, test)


def test_thirty_streams_run_side_by_side() -> None:
    started: list[bytes] = []
    all_started = asyncio.Event()

    async def script(worker: WorkerHandler) -> None:
        await worker.start_stream()
        started.append(worker.request.body)
        if len(started) == 30:
            all_started.set()
        await all_started.wait()
        await worker.send(b"event: ping\ndata: " + worker.request.body + b"\n\n" + STOP)

    async def test(running: Bench) -> None:
        answers = await asyncio.gather(*(running.ask(body=b"%d" % number) for number in range(30)))
        bodies = await asyncio.gather(*(answer.body() for answer in answers))
        assert bodies == [b"event: ping\ndata: %d\n\n" % number + STOP for number in range(30)]

    run(script, test)


def test_status_headers_path_and_query_pass() -> None:
    async def script(worker: WorkerHandler) -> None:
        worker.set_status(529, "Overloaded")
        worker.set_header("nbllama-model", "demo")
        worker.set_header("retry-after", "3")
        worker.set_header("Connection", "x-hop")
        worker.set_header("x-hop", "1")
        worker.write({"uri": worker.request.uri, "body": worker.request.body.decode()})

    async def test(running: Bench) -> None:
        answer = await running.ask("/v1/models/a%2Fb?limit=2&token=secret&after_id=", body=b"hello")
        assert answer.status == 529
        assert answer.headers["nbllama-model"] == "demo"
        assert answer.headers["retry-after"] == "3"
        assert "x-hop" not in answer.headers
        assert json.loads(await answer.body()) == {"uri": "/v1/models/a%2Fb?limit=2&after_id=", "body": "hello"}

    run(script, test)


def test_a_body_that_is_too_large_is_a_413() -> None:
    async def script(worker: WorkerHandler) -> None:
        raise AssertionError("must not be asked")

    async def test(running: Bench) -> None:
        answer = await running.ask(body=b"z" * (MAX_BODY + 1))
        assert answer.status == 413
        assert json.loads(await answer.body())["error"]["type"] == "request_too_large"

    run(script, test)


def test_request_headers_keep_no_key_and_no_header_of_ours() -> None:
    sent = HTTPHeaders(
        {
            "Authorization": "Bearer secret",
            "X-Api-Key": "secret",
            "Cookie": "session=secret",
            "Host": "example.org",
            "Content-Length": "2",
            "Transfer-Encoding": "chunked",
            "Connection": "keep-alive, X-Hop",
            "X-Hop": "1",
            "Accept-Encoding": "gzip",
            "Nbllama-Client": "somebody",
            "nbllama-secret": "guess",
            "Content-Type": "application/json",
            "Anthropic-Version": "2023-06-01",
        }
    )
    endpoint = Endpoint("http://127.0.0.1:1", key="the key", pid=1)
    passed = {name.lower(): value for name, value in request_headers(sent, endpoint, "alice", "demo").get_all()}
    assert passed == {
        "host": "localhost",
        "nbllama-client": "alice",
        "nbllama-default-model": "demo",
        "nbllama-secret": "the key",
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
    }


def test_whole_events_for_every_split() -> None:
    stream = b": comment\n\n" + START + ERROR
    for cut in range(len(stream)):
        scan = WholeEvents()
        first = scan.feed(stream[:cut])
        assert first == stream[:cut][: stream[:cut].rfind(b"\n\n") + 2] if b"\n\n" in stream[:cut] else not first
        assert not scan.ended
        assert first + scan.feed(stream[cut:]) == stream
        assert scan.ended
        assert scan.feed(DELTA) == b""


def test_words_in_the_data_are_no_terminal_event() -> None:
    scan = WholeEvents()
    data = b'event: content_block_delta\ndata: {"text":"\\nevent: message_stop\\n\\n"}\n\n'
    assert scan.feed(data) == data
    assert not scan.ended


def test_a_worker_that_is_gone_is_replaced_for_the_same_request() -> None:
    async def script(worker: WorkerHandler) -> None:
        worker.write({"ok": True})

    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="nbl", dir="/tmp") as folder:
            paths = iter([f"{folder}/1.sock", f"{folder}/2.sock"])
            workers: list[HTTPServer] = []

            async def begin(path: str) -> None:
                workers.append(listen(script, path))

            def ensure() -> Endpoint:
                path = next(paths)
                asyncio.run_coroutine_threadsafe(begin(path), loop).result()
                return Endpoint("http://localhost", socket=path, pid=1)

            loop = asyncio.get_running_loop()
            running = Bench(ensure)
            assert (await running.ask()).status == 200
            workers[0].stop()
            Path(f"{folder}/1.sock").unlink()
            # Also side by side the new one is started once.
            answers = await asyncio.gather(*(running.ask() for _ in range(5)))
            assert [answer.status for answer in answers] == [200] * 5
            assert len(workers) == 2
            await running.close()
            for worker in workers:
                await close(worker)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.parametrize("headers_first", [True, False])
def test_a_worker_that_broke_off_is_looked_for_anew(headers_first: bool) -> None:
    async def script(worker: WorkerHandler) -> None:
        if worker.request.body == b"die":
            if headers_first:
                await worker.start_stream()
            worker.die()

    async def test(running: Bench) -> None:
        first = await running.link.endpoint()
        await (await running.ask()).body()
        assert await running.link.endpoint() is first
        await (await running.ask(body=b"die")).body()
        assert await running.link.endpoint() is not first

    run(script, test)


def test_a_worker_that_cannot_start_is_a_500_that_is_not_retried() -> None:
    def ensure() -> Endpoint:
        raise WorkerError("no worker is running, and there is none to start")

    async def main() -> None:
        running = Bench(ensure)
        answer = await running.ask()
        assert answer.status == 500
        assert answer.headers["x-should-retry"] == "false"
        assert "none to start" in json.loads(await answer.body())["error"]["message"]
        await running.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
