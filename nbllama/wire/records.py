"""What is remembered of one request: the record that traces show. Plain data, JSON in and out.

`SCHEMA_VERSION` grows when a field changes its meaning; a reader ignores fields that it does not know.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

SCHEMA_VERSION = 1
MAX_ALTERNATIVES = 20
"""Alternatives of a token that may be asked for, as in other APIs."""
TRACES_OFF = "traces are turned off: the server's setting `traces` is 0"
"""What a reader is told instead of a record; it need not ask again."""


@dataclass(slots=True)
class RequestRecord:
    """One request from acceptance to its ending.

    `model` is what was asked for, `model_id` which one answered, `model_hash` which file that was, `n_ctx` its context
    in tokens (0: no model was reached). `created` is in unix seconds, every other time in seconds since then. `spans`
    are `{start, end, kind, message, block}` in characters of `prompt`. `prompt_offsets` are the characters where the
    tokens of `prompt_ids` begin, `token_times` when each of `output_ids` was drawn. `pieces` maps every id of both and
    of `probabilities`, as a decimal number, to its bytes in hex; `special` are those that are control tokens.

    `probabilities`, one for each of `output_ids` and only where they were asked for, are `{logprob, top, entropy,
    raw_logprob, raw_top, removed, forced}` (docs/wire.md). `reuse` is `{cached_tokens, source, compared_with,
    first_difference, reason}`: why not more of the prompt was cached. `prefill` are `[seconds, tokens]`: when each
    step of the prefill had ended, and so many tokens of the prompt were there. `events` are `[seconds, event]`.
    `timings` may hold queued_s, prefill_s, first_token_s, decode_s, total_s, tokens_per_second, prefill_tokens,
    prefill_steps and decode_steps.

    `forked_from` is `{id, index, token, max_tokens}` where the answer goes on from the first `index` tokens of another
    record's and from `token`, for at most `max_tokens`; they are the first ones of `output_ids`.

    `parser_steps` are `{start, end, state, decision, pieces}`:
    of which characters of `output_text` the parser decided what (below 0: of the prompt's end), and the kinds of
    pieces that came of it; text that was read twice is in two of them. `ending` is done, stop_sequence, max_tokens,
    tool_use, context, cancelled or error; empty while the request runs.
    """

    id: str
    message_id: str
    client: str
    model: str
    created: float
    stream: bool
    request: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    prompt_offsets: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    reuse: dict[str, Any] = field(default_factory=dict)
    prefill: list[list[Any]] = field(default_factory=list)
    output_ids: list[int] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    probabilities: list[dict[str, Any]] = field(default_factory=list)
    pieces: dict[str, str] = field(default_factory=dict)
    special: list[int] = field(default_factory=list)
    output_text: str = ""
    parser_steps: list[dict[str, Any]] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    ending: str = ""
    error: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    model_id: str = ""
    model_hash: str = ""
    n_ctx: int = 0
    forked_from: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RequestRecord:
        """The record of a dictionary; keys that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})

    def summary(self) -> dict[str, Any]:
        """The row of this record in a list."""
        return {
            "id": self.id,
            "message_id": self.message_id,
            "model": self.model,
            "created": self.created,
            "ending": self.ending,
            "prompt_tokens": len(self.prompt_ids),
            "cached_tokens": self.cached_tokens,
            "output_tokens": len(self.output_ids),
            "total_s": self.timings.get("total_s"),
            "tokens_per_second": self.timings.get("tokens_per_second"),
            "forked_from": self.forked_from.get("id"),
        }
