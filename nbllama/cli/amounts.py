"""Amounts as people read them."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """98362432 → `98 MB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            value = n_bytes / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
    return f"{n_bytes:.0f} bytes"


def duration(seconds: float) -> str:
    """4000 → `1 h 6 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(n: int, noun: str) -> str:
    """(2, "request") → `2 requests`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
