"""Streams as they travel, byte for byte but for what is new each time. Writes `*.sse` beside this file:

python -m tests.recordings.record_sse
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from tests.serve_process import Door, serving

FOLDER = Path(__file__).parent
TOOL = {
    "name": "get_weather",
    "description": "Current weather of a place.",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
        "required": ["location", "days"],
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Zürich", "days": [1, 2]}}\n</tool_call>'
SCRIPT = {
    "n_ctx": 40_000,
    "rules": [
        {"when": "greet", "answer": "Grüezi! How are you? 🦙", "delay_s": 0.02},
        {"when": "weather", "answer": f"Let me look.\n{CALL}", "delay_s": 0.005},
        {"when": "think", "answer": "<think>\nTwo and two.\n</think>\n\nIt is 4.", "delay_s": 0.02},
        {"when": "fail", "answer": "one two three four five six", "delay_s": 0.02, "fail_after": 4},
        {"when": "count", "answer": "one two three STOP four", "delay_s": 0.02},
    ],
}
REQUESTS: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "greet me"}]},
    "tool_use": {"messages": [{"role": "user", "content": "the weather?"}], "tools": [TOOL]},
    "thinking": {"messages": [{"role": "user", "content": "think: 2 + 2"}], "thinking": {"type": "adaptive"}},
    "error": {"messages": [{"role": "user", "content": "fail"}]},
    "stop_sequence": {"messages": [{"role": "user", "content": "count"}], "stop_sequences": ["STOP"]},
}
_NEW_EACH_TIME = re.compile(r'\b(msg|toolu|req)_[0-9A-Za-z]{24}|(?<="signature":")[^"]+')


def masked(stream: bytes) -> bytes:
    """The same stream with ids and signatures that are always the same."""
    text = _NEW_EACH_TIME.sub(lambda found: f"{found[1]}_{'0' * 24}" if found[1] else "c2lnbmVk", stream.decode())
    return text.encode()


def stream_of(door: Door, name: str) -> bytes:
    """What the door sends for a request of `REQUESTS`, masked."""
    body = {"model": "claude-recorded", "max_tokens": 200, "stream": True, **REQUESTS[name]}
    with door.open("/v1/messages", body) as answer:
        return masked(answer.read())


def script_in(folder: Path) -> str:
    """A reference to the model of the recordings."""
    path = folder / "recorded.json"
    path.write_text(json.dumps(SCRIPT))
    return f"scripted:{path}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(script_in(Path(folder))) as door:
        door.request("/v1/messages", {"model": "any", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
        for name in REQUESTS:
            (FOLDER / f"{name}.sse").write_bytes(stream_of(door, name))


if __name__ == "__main__":
    main()
