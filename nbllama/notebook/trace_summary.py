"""A record in short: rows, then text or static HTML. Pure."""

from __future__ import annotations

from typing import Any

from nbllama.notebook import markup
from nbllama.notebook.phrases import bounded
from nbllama.views.visible import visible

_MAX_TEXT = 200


def rows(record: dict[str, Any], text: str) -> list[tuple[str, str]]:
    """What and value, for `html` and `plain`."""
    timings = record["timings"]
    n_prompt, n_cached = len(record["prompt_ids"]), record["cached_tokens"]
    found = [
        ("request", record["id"]),
        ("model", record["model"]),
        ("ending", _ending(record)),
        ("prompt", f"{n_prompt:,} tokens" + (f", {n_cached:,} of them cached" if n_cached else "")),
        ("answer", f"{len(record['output_ids']):,} tokens" + _speed(timings)),
        ("time", _times(timings)),
        ("text", bounded(text, _MAX_TEXT)),
    ]
    if fork := record.get("forked_from"):
        found.insert(1, ("fork of", f"{fork['id']}, at its token {fork['index']}"))
    if record["ignored"]:
        found.append(("ignored", ", ".join(record["ignored"])))
    found += [("warning", warning) for warning in record["warnings"]]
    return [(name, value) for name, value in found if value]


def html(table: list[tuple[str, str]]) -> str:
    """Static and escaped; the look is in literal styles, which an untrusted notebook keeps."""
    head = "text-align:left;vertical-align:top;padding:1px 12px 1px 0;font-weight:600;white-space:nowrap"
    cell = "text-align:left;padding:1px 0;white-space:pre-wrap"
    lines = [
        f'<tr><th style="{head}">{markup.plain(name)}</th><td style="{cell}">{markup.plain(value)}</td></tr>'
        for name, value in table
    ]
    return markup.static(f"<table>{''.join(lines)}</table>")


def plain(table: list[tuple[str, str]]) -> str:
    return visible("\n".join(f"{name:8} {value}" for name, value in table))


def _ending(record: dict[str, Any]) -> str:
    error = record["error"]
    return f"{record['ending']}: {error['message']}" if error else str(record["ending"])


def _speed(timings: dict[str, float]) -> str:
    speed = timings.get("tokens_per_second")
    return f", {speed:,.0f} tokens/s" if speed else ""


def _times(timings: dict[str, float]) -> str:
    names = (("queued_s", "waiting"), ("prefill_s", "prompt"), ("decode_s", "answer"), ("total_s", "in all"))
    return ", ".join(f"{timings[key]:.3f} s {name}" for key, name in names if key in timings)
