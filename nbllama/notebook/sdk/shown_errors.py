"""The SDK's two clients, whose errors show themselves in a line or two. Imports anthropic (0.8 s): only when asked for.

The errors stay the SDK's own, so `except anthropic.BadRequestError` works. Nothing else differs: an error gets a way to
show itself where it leaves a request, and where the SDK makes one from a stream's `error` event: in
`_make_status_error`, which 2.x types as final (1.x overrides it itself).
"""

from __future__ import annotations

from typing import Any

import anthropic

from nbllama.notebook.errors import DIED, api_fix, with_fix
from nbllama.notebook.short_traceback import shortened


class Anthropic(anthropic.Anthropic):
    def _make_status_error(  # type: ignore[misc,unused-ignore]  # see above
        self, *args: Any, **options: Any
    ) -> anthropic.APIStatusError:
        return shortened(super()._make_status_error(*args, **options), describe)

    def request(self, *args: Any, **options: Any) -> Any:
        try:
            return super().request(*args, **options)
        except anthropic.APIError as error:
            shortened(error, describe)
            raise


class AsyncAnthropic(anthropic.AsyncAnthropic):
    def _make_status_error(  # type: ignore[misc,unused-ignore]  # see above
        self, *args: Any, **options: Any
    ) -> anthropic.APIStatusError:
        return shortened(super()._make_status_error(*args, **options), describe)

    async def request(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().request(*args, **options)
        except anthropic.APIError as error:
            shortened(error, describe)
            raise


def describe(error: anthropic.APIError) -> str:
    """What happened and what to do: "BadRequestError: invalid_request_error (400): prompt is too long …"."""
    name = type(error).__name__
    if isinstance(error, anthropic.APIStatusError):
        kind, message = _parts(error.body)
        text = message or error.message
        # An error in the middle of a stream comes with the stream's own status, 200.
        status = f" ({error.status_code})" if error.status_code >= 400 else ""
        return with_fix(f"{name}: {kind}{status}: {text}", api_fix(kind, text))
    if isinstance(error, anthropic.APITimeoutError):
        return with_fix(f"{name}: no answer in time", "ask again with a longer `timeout=`, or stream the answer")
    if isinstance(error, anthropic.APIConnectionError):
        cause = error.__cause__
        return with_fix(f"{name}: {error.message}" + (f" ({cause})" if cause and str(cause) else ""), DIED)
    return f"{name}: {error.message}"


def _parts(body: object) -> tuple[str, str]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "api_error", ""
    return str(error.get("type") or "api_error"), str(error.get("message") or "")
