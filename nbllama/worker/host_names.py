"""Which names a TCP door answers to. A web page whose name was bound anew to 127.0.0.1 sends its own name as Host."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection


def is_loopback(name: str) -> bool:
    """Whether `name` (no port, no brackets) is this machine for itself."""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """The name in a `Host` header: "[::1]:8010" → "::1", "Localhost:80" → "localhost"."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def is_ours(header: str, bound: str | None, allowed: Collection[str] = ()) -> bool:
    """Whether a request with this `Host` was meant for a door at the address `bound`."""
    name = host_name(header)
    return is_loopback(name) or (bound is not None and name == bound.lower()) or name in allowed
