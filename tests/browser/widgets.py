"""The notebook that the browser uses: each live view of a real record, a broken stream, a huge prompt, and what a
hostile model would write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.browser.answers import HOSTILE
from tests.views.asking import WEATHER, Record, asked, assistant, records, user
from tests.views.test_views import huge

CELLS = {
    "load": """
import json
from nbllama.notebook import widgets
from nbllama.views.every import NAMES, view_of

saved = json.load(open("records.json"))

def live(name, record, before=None, **more):
    return getattr(widgets, name)(view_of(name, record, before=before), **more)
""",
    "tokens": "live('tokens', saved['weather'])",
    "cache": "live('cache', saved['later'], before=saved['weather'])",
    "calls": "live('calls', saved['weather'])",
    "events": "live('events', saved['broken'])",
    "probabilities": """
class Branch:
    def __init__(self, text): self.text = text
    def _repr_html_(self): return f"<b>a branch</b>: {self.text}"

def fork(index, token_id):
    if index == 3: raise ValueError("this model <b>is gone</b>")
    return Branch(f"went on from {index} with {token_id}")

live('probabilities', saved['weather'], fork=fork)
""",
    "timing": "live('timing', saved['weather'])",
    "huge": "live('tokens', saved['huge'])",
    "hostile": """
from IPython.display import display
for name in NAMES:
    display(live(name, saved['hostile'], saved['hostile_before'] if name == 'cache' else None))
""",
}


def write(folder: Path, name: str) -> None:
    """The notebook, and its records beside it."""
    (folder / "records.json").write_text(json.dumps(_records(folder)))
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": id,
            "source": source.strip(),
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for id, source in CELLS.items()
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / name).write_text(json.dumps(notebook))


def _records(folder: Path) -> dict[str, Record]:
    question = user("The weather in Paris? ä€🙂")
    more: dict[str, Any] = {"tools": [WEATHER], "thinking": {"type": "adaptive"}, "stream": True}
    later = [question, assistant("Sunny."), user("Thank you!")]
    weather, after = records(
        folder,
        asked(question, system="Be brief. It is 2026-11-25 10:00.", **more),
        asked(*later, system="Be brief. It is 2026-11-25 10:07.", **more),
    )
    _slow(weather)
    _likely(weather)
    broken = weather | {"events": [one for one in weather["events"] if not _is_lost(one[1])]}
    return {
        **{"weather": weather, "later": after, "broken": broken, "huge": huge(210_000)},
        **{"hostile": _hostile("now"), "hostile_before": _hostile("before")},
    }


def _is_lost(event: dict[str, Any]) -> bool:
    """The message's start, and that of the call."""
    return bool(event["type"] == "message_start" or event.get("content_block", {}).get("type") == "tool_use")


def _slow(record: Record) -> None:
    """A scripted model answers at once: as if each token had taken 40 ms."""
    n = len(record["output_ids"])
    record["token_times"] = [0.5 + 0.04 * i + (0.2 if i >= 9 else 0) for i in range(n)]
    total = record["token_times"][-1] + 0.05
    record["timings"] = {"queued_s": 0.1, "prefill_s": 0.35, "first_token_s": 0.5, "decode_s": total - 0.55}
    record["timings"] |= {"total_s": total, "tokens_per_second": 25.0}
    last = len(record["events"]) - 1
    record["events"] = [[0.05 + total * n / last, event] for n, (_, event) in enumerate(record["events"])]


def _likely(record: Record) -> None:
    ids = record["output_ids"]
    others = list(dict.fromkeys(ids))[:4]
    record["probabilities"] = [_told(n, id, others) for n, id in enumerate(ids)]


def _told(n: int, id: int, others: list[int]) -> dict[str, Any]:
    """Sure of most, unsure of every third; the mask of a grammar on every seventh."""
    p = (0.97, 0.93, 0.31)[n % 3]
    rest = [other for other in others if other != id]
    top = [[id, math.log(p)], *([other, math.log((1 - p) / 2 ** (k + 1))] for k, other in enumerate(rest))]
    told: dict[str, Any] = {"logprob": math.log(p), "top": top, "entropy": -math.log(p), "forced": False}
    if n % 7 == 6:
        raw = [[rest[0], math.log(0.6)], [id, math.log(0.25)]]
        told |= {"top": [[id, 0.0]], "logprob": 0.0, "entropy": 0.0, "forced": True}
        told |= {"raw_logprob": math.log(0.25), "raw_top": raw, "removed": 0.75}
    return told


def _hostile(text: str) -> Record:
    """Markup wherever somebody else writes, and half a character pair."""
    evil = f"{HOSTILE} {text}"
    call = {"type": "tool_use", "id": evil, "name": evil, "input": {evil: evil}}
    return {
        **dict.fromkeys(("id", "model", "ending", "message_id"), evil),
        **{"prompt": evil, "prompt_ids": [1 if text == "now" else 2], "output_ids": [1, 1], "output_text": evil},
        **{"pieces": {"1": evil.encode(errors="replace").hex()}, "prompt_offsets": [0], "special": []},
        **{"cached_tokens": 0, "warnings": [evil]},
        "spans": [{"start": 0, "end": len(evil), "kind": evil, "message": 0, "block": 0}],
        "events": [
            [0.1, {"type": evil}],
            [0.2, {"type": "content_block_start", "index": evil, "content_block": call}],
            [0.3, {"type": "content_block_delta", "index": evil, "delta": {"type": evil, "text": evil}}],
        ],
        "parser_steps": [{"start": 0, "end": 9, "state": evil, "decision": evil, "pieces": [evil]}],
        "request": {"tools": [{"name": evil}], "messages": [{"role": evil, "content": evil}]},
        "message": {"content": [call]},
        "reuse": {"source": evil, "reason": evil},
        "timings": {"total_s": 1.0},
        "token_times": [0.1, 0.2],
        "probabilities": [{"logprob": -0.1, "top": [[1, -0.1], [3, -2.0]], "entropy": 0.1}] * 2,
    }
