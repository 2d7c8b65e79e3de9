"""This kernel's one link to a worker: found once, held as long as the kernel lives, found again when it dies."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nbllama.worker import connection
from nbllama.worker.connection import Attachment, Endpoint

OnWait = Callable[[str], None]


def _silent(_: str) -> None:
    pass


class Link:
    """Any thread may ask. A dead worker is noticed at the next request, which starts a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._attachment: Attachment | None = None
        self._sizes: dict[str, str] = {}
        self.last_request_id: str | None = None

    def endpoint(self, on_wait: OnWait = _silent) -> Endpoint:
        """Where requests go now. May start a worker, which takes seconds. Raises WorkerError."""
        with self._lock:
            if self._endpoint is not None and self._attachment is not None and self._attachment.alive:
                return self._endpoint
            endpoint = connection.discover(on_wait=on_wait)
            if endpoint.is_worker:
                self._detach()
                self._attachment = connection.attach(endpoint)
            self._endpoint = endpoint
            return endpoint

    def note(self, request_id: str | None) -> None:
        """Remembers which request was this kernel's last."""
        if request_id is not None:
            self.last_request_id = request_id

    def size_of(self, model_id: str) -> str:
        """A model's size in words (`4.8M parameters`), for the footer; empty where nobody tells."""
        if model_id not in self._sizes and self._endpoint is not None and self._endpoint.is_worker:
            status = connection.request_json(self._endpoint, "GET", "/nbllama/status")
            for model in status.get("models", []):
                if n_params := model.get("n_params"):
                    self._sizes[model["id"]] = f"{_short(n_params)} parameters"
        return self._sizes.get(model_id, "")

    def close(self) -> None:
        """Detaches; the worker ends by itself when nobody is left."""
        with self._lock:
            self._detach()
            self._endpoint = None

    def _detach(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None


def _short(n: int) -> str:
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)):
        if n >= size:
            return f"{n / size:.1f}".removesuffix(".0") + unit
    return str(n)


LINK = Link()
"""One for each kernel process: every client and every cell of it shares the worker and the attachment."""
