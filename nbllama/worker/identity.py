"""Who this worker is: what the handshake, the status and the connection file say of it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbllama._version import __version__
from nbllama.worker.runtime_dir import PROTOCOL


@dataclass(frozen=True)
class Identity:
    """`log` is the path of the log file, None when nobody redirected the output into it."""

    pid: int = field(default_factory=os.getpid)
    protocol: int = PROTOCOL
    version: str = __version__
    python: str = sys.executable
    prefix: str = sys.prefix
    log: str | None = None
    started: float = field(default_factory=time.monotonic)

    def handshake(self) -> dict[str, Any]:
        return {"protocol": self.protocol, "version": self.version, "pid": self.pid, "prefix": self.prefix}

    def status(self) -> dict[str, Any]:
        """Adds what changes: `rss_bytes`, and `uptime_s` in seconds."""
        uptime = time.monotonic() - self.started
        return self.handshake() | {
            "python": self.python,
            "log": self.log,
            "rss_bytes": rss_bytes(),
            "uptime_s": round(uptime, 3),
        }


def rss_bytes() -> int:
    """The memory that this process holds now; where the system does not tell, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource  # not on Windows, where nothing tells it

        # macOS counts this in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
