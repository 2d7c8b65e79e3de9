"""Where this kernel's requests go. One attachment to the worker per process, whoever asks: magics, clients, traces."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from nbllama.worker import connection
from nbllama.worker.errors import WorkerError

Real = Callable[[connection.Endpoint | None], connection.Endpoint]
"""What finds or starts the worker; its argument is one that did not answer."""


def is_elsewhere() -> bool:
    """Whether the user has named another server than a worker of this host."""
    return bool(os.environ.get("NBLLAMA_BASE_URL"))


class Detour(Protocol):
    """A server of this process that stands before the worker, or `instead` of it: a recording, a replay."""

    instead: bool

    def endpoint(self, real: Real) -> connection.Endpoint: ...

    def told(self) -> str:
        """How it stands, in a line."""
        ...


class KernelLink:
    """Finds the worker, or starts one, and keeps it alive as long as this process is. Safe from any thread."""

    def __init__(self) -> None:
        self.detour: Detour | None = None
        self._lock = threading.Lock()
        self._held: tuple[connection.Endpoint, connection.Attachment] | None = None

    def endpoint(
        self,
        *,
        on_wait: Callable[[str], None] | None = None,
        instead_of: connection.Endpoint | None = None,
    ) -> connection.Endpoint:
        """The server to ask now; blocks while a worker starts. `instead_of` is one that did not answer.

        Raises WorkerError, and CassetteError for a NBLLAMA_REPLAY that is none."""
        if self.detour is None and os.environ.get("NBLLAMA_REPLAY"):
            from nbllama.notebook.cassettes import replay_from_environment

            replay_from_environment()
        if (detour := self.detour) is not None:
            return detour.endpoint(lambda dead: self.real(on_wait=on_wait, instead_of=dead))
        return self.real(on_wait=on_wait, instead_of=instead_of)

    def real(
        self,
        *,
        on_wait: Callable[[str], None] | None = None,
        instead_of: connection.Endpoint | None = None,
    ) -> connection.Endpoint:
        """The same without what stands before it.

        A worker that has died is replaced here, so the request after a death finds a new one. Raises WorkerError."""
        if is_elsewhere():
            return connection.discover()
        with self._lock:
            if self._held is not None:
                endpoint, attachment = self._held
                if endpoint is not instead_of and attachment.alive:
                    return endpoint
                self._let_go()
            self._held = _reach(on_wait)
            return self._held[0]

    def running(self) -> connection.Endpoint | None:
        """The server to ask, None where a worker would have to be started for it: to look starts none."""
        return self.endpoint() if is_elsewhere() or connection.find() is not None else None

    def forget(self, endpoint: connection.Endpoint) -> None:
        """Lets go of a worker that broke an answer off: while it dies it may still accept connections."""
        with self._lock:
            if self._held is not None and self._held[0] == endpoint:
                self._let_go()

    def detach(self) -> None:
        """Lets go of the worker, which ends by itself when nobody is attached."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None


def _reach(on_wait: Callable[[str], None] | None) -> tuple[connection.Endpoint, connection.Attachment]:
    endpoint = connection.discover(on_wait=on_wait)
    try:
        return endpoint, connection.attach(endpoint, "kernel")
    except WorkerError:
        # It ended, idle, between being found and being attached to.
        endpoint = connection.discover(on_wait=on_wait)
        return endpoint, connection.attach(endpoint, "kernel")


link = KernelLink()
"""The one of this process."""
