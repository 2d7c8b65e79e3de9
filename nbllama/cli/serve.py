"""`nbllama serve`: a TCP door to the worker, without Jupyter. Ending it ends the door, never the kernels' model."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllama.errors import NbllamaError
from nbllama.worker import connection
from nbllama.worker.host_names import host_name, is_loopback

if TYPE_CHECKING:
    from tornado.httpserver import HTTPServer

    from nbllama.cassettes.player import Player
    from nbllama.worker.door import Access

LOADING = 3600.0
"""Seconds that a model may take to load: large files on slow disks take minutes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model_help = "demo, smollm2, a .gguf file or scripted:FILE (default: the worker's setting)"
    parser.add_argument("--model", metavar="REF", help=model_help)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8010, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--token", help="the key that clients must send (default: a random one, on standard error)")
    host_help = "another name of this machine's that requests may come by, as behind a proxy (repeatable)"
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=host_help)
    origin_help = "web pages that may ask, as https://example.org; they need a key as well (repeatable)"
    parser.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN", help=origin_help)
    ctx_help = "context in tokens (default: 8192 or what the model was trained for, the smaller)"
    parser.add_argument("--ctx", type=int, metavar="N", help=ctx_help)
    replay_help = "answer from this cassette (`%%llama record FILE`), without a model"
    parser.add_argument("--replay", metavar="FILE", help=replay_help)
    speed_help = "of a replay: 1 as recorded, 4 four times as fast, 0 at once (default: 1)"
    parser.add_argument("--speed", metavar="X", help=speed_help)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code. Raises NbllamaError if it cannot serve."""
    _check(args)
    player = _player(args)
    sockets = _bind(args.host, args.port)
    try:
        return asyncio.run(_serve(args, sockets) if player is None else _serve_replay(args, sockets, player))
    finally:
        for listening in sockets:
            listening.close()


class ServeError(NbllamaError):
    """The door cannot be opened as asked."""


async def _serve(args: argparse.Namespace, sockets: list[socket.socket]) -> int:
    # Tornado is imported only by those who serve.
    from nbllama.worker.door import new_door
    from nbllama.worker.link import WorkerLink

    token = args.token or _random_token()
    reference = absolute_reference(args.model)
    before = await asyncio.to_thread(connection.find)
    link = WorkerLink(lambda: connection.ensure(model=reference, ctx=args.ctx, on_wait=_say), kind="serve")
    ending = _end_signals()
    endpoint = None
    try:
        endpoint = worker = await link.endpoint()
        loading = _in_background(lambda: load_model(worker, reference, args.ctx))
        if not await _unless(ending, loading):
            return 0
        model = loading.result()
        # Not the id: a worker that is started after this one's death has not heard of it.
        link.default_model = reference
        await _keep_open(args, sockets, new_door(link, _access(args, token)), model, ending)
        return 0
    finally:
        await link.close()
        if endpoint is not None and (before is None or before.pid != endpoint.pid):
            await asyncio.to_thread(end_if_alone, endpoint)


async def _serve_replay(args: argparse.Namespace, sockets: list[socket.socket], player: Player) -> int:
    """The same door, to a player in this process instead of the worker: no worker is started, or asked."""
    from nbllama.worker.door import new_door
    from nbllama.worker.link import WorkerLink

    token = args.token or _random_token()
    player.start()
    link = WorkerLink(lambda: player.endpoint, kind="serve")
    try:
        what = f"a replay of {player.tape.name} ({len(player.tape.cassette.exchanges)} recordings)"
        await _keep_open(args, sockets, new_door(link, _access(args, token)), what, _end_signals())
        return 0
    finally:
        await link.close()
        player.close()


async def _keep_open(
    args: argparse.Namespace, sockets: list[socket.socket], server: HTTPServer, what: str, ending: asyncio.Event
) -> None:
    server.add_sockets(sockets)
    print(f"nbllama: serving {what} at {_url(args.host, sockets)}", flush=True)
    await ending.wait()
    server.stop()


def _access(args: argparse.Namespace, token: str) -> Access:
    from nbllama.worker.door import Access

    hosts = frozenset(host_name(name) for name in [*args.allow_host, args.host])
    return Access(token, hosts=hosts, origins=frozenset(args.allow_origin))


def _player(args: argparse.Namespace) -> Player | None:
    """What `--replay` plays. Raises CassetteError, ServeError."""
    if args.replay is None:
        if args.speed is not None:
            raise ServeError("--speed is of a replay: say which with --replay FILE")
        return None
    if args.model is not None or args.ctx is not None:
        raise ServeError("--replay answers without a model: leave --model and --ctx out")
    from nbllama.cassettes.player import Player
    from nbllama.cassettes.speed import speed
    from nbllama.cassettes.tape import Tape

    return Player(Tape.load(Path(args.replay).expanduser()), speed(args.speed or "1"))


def load_model(worker: connection.Endpoint, reference: str | None, ctx: int | None) -> str:
    """Loads the model beside those that are loaded, and returns its id. `reference` None is the worker's default."""
    if reference is None:
        reference = connection.request_json(worker, "GET", "/v1/models")["data"][0]["id"]
    body = {"model": reference} if ctx is None else {"model": reference, "ctx": ctx}
    return str(connection.request_json(worker, "POST", "/nbllama/load", body, timeout=LOADING)["id"])


def _in_background(work: Callable[[], str]) -> asyncio.Future[str]:
    """Runs `work` in a thread that nobody waits for at the end: Ctrl-C must not wait for a model to load."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()

    def deliver(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if future.done() else set_outcome(outcome))

    def run() -> None:
        try:
            deliver(future.set_result, work())
        except Exception as error:  # whatever it was, who awaits the future gets it
            deliver(future.set_exception, error)

    threading.Thread(target=run, name="nbllama-load", daemon=True).start()
    return future


async def _unless(ending: asyncio.Event, work: asyncio.Future[Any]) -> bool:
    """Whether `work` was done before `ending` came. Raises what `work` raised."""
    waiting = asyncio.ensure_future(ending.wait())
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        work.result()
        return not ending.is_set()
    work.cancel()
    return False


def end_if_alone(endpoint: connection.Endpoint) -> None:
    """Ends the worker that this door started, unless somebody else is there by now."""
    # It takes the worker a moment to see that we have detached.
    for _ in range(20):
        if connection.stop(endpoint, if_idle=True):
            return
        time.sleep(0.05)


def absolute_reference(reference: str | None) -> str | None:
    """A reference that means the same in the worker, whose working directory is another one."""
    if reference is None:
        return None
    scheme, colon, rest = reference.partition(":")
    if colon and scheme == "scripted":
        return f"scripted:{Path(rest).expanduser().absolute()}"
    path = Path(reference).expanduser()
    return str(path.absolute()) if path.suffix == ".gguf" or path.is_file() else reference


def _check(args: argparse.Namespace) -> None:
    if args.token == "":
        raise ServeError("--token must not be empty")
    if args.token is None and not is_loopback(args.host):
        raise ServeError(f"{args.host} can be reached by others: say which key they need, with --token")
    for origin in args.allow_origin:
        if "://" not in origin or origin.endswith("/"):
            raise ServeError(f"--allow-origin {origin}: an origin is a scheme and a name, as https://example.org")
    if args.ctx is not None and args.ctx < 1:
        raise ServeError("--ctx must be at least 1")
    if not 0 <= args.port <= 65535:
        raise ServeError(f"{args.port} is not a port")


def _bind(host: str, port: int) -> list[socket.socket]:
    from tornado.netutil import bind_sockets

    try:
        return bind_sockets(port, host)
    except OSError as error:
        raise ServeError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def _url(host: str, sockets: list[socket.socket]) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sockets[0].getsockname()[1]}"


def _end_signals() -> asyncio.Event:
    """Set at SIGINT or SIGTERM."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers in its loop; there KeyboardInterrupt ends `run`.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ending.set)
    return ending


def _random_token() -> str:
    token = secrets.token_urlsafe(24)
    _say(f"nbllama: the token is {token}")
    _say("nbllama: for clients, the key that `nbllama key` prints opens /v1 here as well")
    return token


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
