"""The worker's Tornado application and its server: what every endpoint finds on `self.application`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler

from nbllama.worker.endpoints import NotFoundEndpoint
from nbllama.worker.http_server import BoundedServer
from nbllama.worker.identity import Identity
from nbllama.worker.lifecycle import Lifecycle
from nbllama.worker.policy import Policy
from nbllama.worker.routes import routes
from nbllama.worker.state import Worker

if TYPE_CHECKING:
    from nbllama.answer.service import Service

log = logging.getLogger(__name__)


class WorkerApplication(Application):
    """The routes, with the one typed object that they share."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        super().__init__(routes(), default_handler_class=NotFoundEndpoint, log_function=_log_request)


class WorkerServer(BoundedServer):
    """Answers at once (no Nagle delay on TCP)."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        stream.set_nodelay(True)
        super().handle_stream(stream, address)


def build_app(
    service: Service,
    lifecycle: Lifecycle,
    identity: Identity | None = None,
    *,
    secret: str | None = None,
    policy: Policy | None = None,
) -> WorkerApplication:
    """The application over a service, which must be started in the same event loop."""
    return WorkerApplication(Worker(service, lifecycle, identity or Identity(), secret, policy or Policy()))


def _log_request(handler: RequestHandler) -> None:
    """One line a request: no query, no body, nothing a user wrote. Our own small talk only when it fails."""
    request = handler.request
    if request.path.startswith("/nbllama/") and handler.get_status() < 400:
        return
    milliseconds = 1000 * request.request_time()
    log.info("%s %s %d %.0f ms", request.method, request.path, handler.get_status(), milliseconds)
