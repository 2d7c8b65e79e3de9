"""What a request to fork an answer says: where, with which token, and what else is to be otherwise."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nbllama.wire.content import WireModel
from nbllama.wire.errors import InvalidRequest
from nbllama.wire.validation import validate

_OF_EXTENSION = ("seed", "min_p", "probabilities")
_OF_REQUEST = ("temperature", "top_p", "top_k")


class ForkWish(WireModel):
    """The first `index` generated tokens stay, `token` is the next one, `max_tokens` is how many may follow it.

    The rest is in place of what the forked request said; None leaves it as it was. What it may be is the request's to
    check."""

    index: int = Field(ge=0)
    token: int = Field(ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    stream: bool = False
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    seed: Any = None
    min_p: Any = None
    probabilities: Any = None

    def applied(self, sent: dict[str, Any]) -> dict[str, Any]:
        """The body of the forked request with what is to be otherwise."""
        own = sent.get("nbllama")
        own = {**(own if isinstance(own, dict) else {}), **self._said(_OF_EXTENSION)}
        body = {**sent, **self._said(_OF_REQUEST), "stream": self.stream}
        if own:
            body["nbllama"] = own
        if self.max_tokens is not None:
            # Of the whole answer; never below what a budget of thinking was made for.
            body["max_tokens"] = max(sent.get("max_tokens", 0), self.index + 1 + self.max_tokens)
        return body

    def _said(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def fork_wish(sent: dict[str, Any]) -> ForkWish:
    """The wish of a body. Raises InvalidRequest, also for a field that no fork has."""
    if unknown := [name for name in sent if name not in ForkWish.model_fields]:
        known = ", ".join(ForkWish.model_fields)
        raise InvalidRequest(f"{unknown[0][:100]}: a fork has no such field; it has {known}")
    return validate(ForkWish, {name: value for name, value in sent.items() if value is not None})
