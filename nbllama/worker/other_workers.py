"""Workers of another protocol number: they run beside ours, with a model of their own in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.worker.client_http import Endpoint, request_json
from nbllama.worker.finding import endpoint_of
from nbllama.worker.runtime_dir import PROTOCOL, read_json, runtime_dir

_TIMEOUT = 2.0
_NAME = re.compile(r"nbllama-p(\d+)\.json")


@dataclass(frozen=True)
class OtherWorker:
    """A running worker that we cannot ask for answers. `version` is that of its nbllama."""

    protocol: int
    pid: int
    version: str
    endpoint: Endpoint

    def __str__(self) -> str:
        return (
            f"worker {self.pid} of nbllama {self.version} (protocol {self.protocol}) runs beside this one "
            "and has a second model in memory; end it with that version's `nbllama stop`"
        )


def other_workers() -> list[OtherWorker]:
    """Those that answer. Whatever else is in the runtime folder is passed over."""
    found = []
    for path in sorted(runtime_dir().glob("nbllama-p*.json")):
        match = _NAME.fullmatch(path.name)
        if match is None or int(match[1]) == PROTOCOL:
            continue
        try:
            other = _asked(int(match[1]), read_json(path))
        except NbllamaError:
            continue
        found += [other] if other is not None else []
    return found


def _asked(protocol: int, info: dict[str, Any] | None) -> OtherWorker | None:
    endpoint = endpoint_of(info, protocol) if info is not None else None
    if endpoint is None or endpoint.pid is None:
        return None
    # The handshake is the one thing that all protocols have in common.
    answer = request_json(endpoint, "GET", "/nbllama/handshake", timeout=_TIMEOUT)
    if (answer.get("protocol"), answer.get("pid")) != (protocol, endpoint.pid):
        return None
    return OtherWorker(protocol, endpoint.pid, str(answer.get("version")), endpoint)
