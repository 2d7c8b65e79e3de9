"""The worker's life: listen, tell where, serve, drain, go."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.netutil import bind_sockets, bind_unix_socket

from nbllama.worker.app import WorkerServer, build_app
from nbllama.worker.finding import find
from nbllama.worker.identity import Identity
from nbllama.worker.lifecycle import Lifecycle
from nbllama.worker.policy import Policy
from nbllama.worker.post_mortem import oom_kills
from nbllama.worker.runtime_dir import (
    connection_file,
    locked,
    log_file,
    publish_lock,
    read_json,
    remove_dead_sockets,
    remove_half_written,
    remove_socket,
    socket_path,
    unusable,
    write_json,
)
from nbllama.worker.settings import Settings
from nbllama.worker.starting import record_interpreter

if TYPE_CHECKING:
    from nbllama.answer.service import Service

log = logging.getLogger(__name__)

DRAIN_SECONDS = 120.0
"""How long running answers may take once the worker is asked to end."""

LAST_WORDS_SECONDS = 5.0
"""How long the clients of what ran may take to read the end of it."""

LOCK_SECONDS = 10.0

BACKLOG = 1024
"""Connections that wait to be accepted. Beyond them a Unix socket refuses at once; a notebook may bring hundreds."""


@dataclass(frozen=True)
class Address:
    """Where the worker listens: a Unix socket, or loopback TCP with a secret."""

    socket: Path | None = None
    port: int | None = None
    secret: str | None = None

    def info(self) -> dict[str, Any]:
        if self.socket is not None:
            return {"socket": str(self.socket)}
        return {"port": self.port, "secret": self.secret}


async def serve(service: Service, settings: Settings) -> bool:
    """Serves until it is idle for long enough or told to stop. False if another worker was there first."""
    identity = Identity(log=str(log_file()))
    secret = secrets.token_urlsafe(32) if _uses_tcp(settings) else None
    lifecycle = Lifecycle(
        idle_exit=settings.idle_exit,
        idle_unload=settings.idle_unload,
        on_stop=unpublish,
        on_idle=lambda: _unload_soon(service),
    )
    await service.start()
    server = WorkerServer(build_app(service, lifecycle, identity, secret=secret, policy=Policy(settings)))
    address = _listen(server, secret)
    try:
        if not _publish(identity, address, settings):
            return False
        log.info("pid %d serves protocol %d, version %s", identity.pid, identity.protocol, identity.version)
        _stop_on_signals(lifecycle)
        lifecycle.start()
        await lifecycle.stopping.wait()
        await _drain(service, lifecycle)
        return True
    finally:
        unpublish()
        if address.socket is not None:
            remove_socket(address.socket)
            # Of one that was killed while this one served.
            remove_dead_sockets()
        server.stop()
        await service.close()
        # What the service has ended may not be written to its client yet.
        await lifecycle.wait_quiet(LAST_WORDS_SECONDS)
        await server.close_all_connections()


def unpublish() -> None:
    """Removes the connection file if it is this process's: from then on nobody finds it."""
    with locked(publish_lock(), timeout=LOCK_SECONDS):
        info = read_json(connection_file())
        if info is not None and info.get("pid") == os.getpid():
            connection_file().unlink(missing_ok=True)


def _uses_tcp(settings: Settings) -> bool:
    return settings.transport == "tcp" or sys.platform == "win32"


def _listen(server: WorkerServer, secret: str | None) -> Address:
    if secret is None:
        path = socket_path(os.getpid())
        remove_dead_sockets()
        remove_socket(path)
        try:
            server.add_socket(bind_unix_socket(str(path), mode=0o600, backlog=BACKLOG))
        except OSError as error:
            raise unusable(path.parent, error) from error
        return Address(socket=path)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    return Address(port=sockets[0].getsockname()[1], secret=secret)


def _publish(identity: Identity, address: Address, settings: Settings) -> bool:
    """Writes the connection file, unless a worker answers already. The lock makes the two one step."""
    with locked(publish_lock(), timeout=LOCK_SECONDS):
        remove_half_written()
        other = find()
        if other is not None:
            log.info("a worker answers already (pid %s)", other.pid)
            return False
        record_interpreter()
        about = identity.handshake() | {"python": identity.python, "log": identity.log, "models": [settings.model]}
        about["oom_kills"] = oom_kills()
        write_json(connection_file(), about | address.info())
    return True


def _stop_on_signals(lifecycle: Lifecycle) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(lifecycle.stop))
        else:
            loop.add_signal_handler(number, lifecycle.stop)


async def _drain(service: Service, lifecycle: Lifecycle) -> None:
    log.info("stopping: %d requests to finish", lifecycle.running)
    await service.drain(DRAIN_SECONDS)


_unloading: set[asyncio.Task[None]] = set()


def _unload_soon(service: Service) -> None:
    task = asyncio.ensure_future(_unload(service))
    _unloading.add(task)
    task.add_done_callback(_unloading.discard)


async def _unload(service: Service) -> None:
    for model in service.status()["models"]:
        if model["state"] == "loaded":
            log.info("unloading %s, unused for long", model["id"])
            await service.unload(model["id"])
