"""The official `anthropic` client, connected to this kernel's worker. `anthropic` takes 0.8 s to import: only here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nbllama.notebook.sdk.transport import NOMINAL_URL, AsyncTransport, Route, Transport, http_library
from nbllama.worker.connection import Endpoint

if TYPE_CHECKING:
    import anthropic

_NO_KEY = "nbllama"
"""The SDK demands a key, or takes one from the environment. The worker's socket needs none."""


def client(**options: Any) -> anthropic.Anthropic:
    """An `anthropic.Anthropic` of the installed version; every option of its own is accepted, but `http_client`.

    Its requests go to this user's worker, which is started at the first one, or to the server at NBLLAMA_BASE_URL
    (with NBLLAMA_API_KEY). `base_url` and `api_key` point it at any other server. Headers from
    ANTHROPIC_CUSTOM_HEADERS, keys from the environment and its proxies are not used."""
    import anthropic

    from nbllama.notebook.sdk.shown_errors import Anthropic

    http = http_library()
    options, route = _plan(http, options)
    http_client = http.Client(transport=Transport(route), trust_env=False, timeout=anthropic.DEFAULT_TIMEOUT)
    return Anthropic(**options, http_client=http_client)


def async_client(**options: Any) -> anthropic.AsyncAnthropic:
    """An `anthropic.AsyncAnthropic`, as `client()`. For asyncio."""
    import anthropic

    from nbllama.notebook.sdk.shown_errors import AsyncAnthropic

    http = http_library()
    options, route = _plan(http, options)
    http_client = http.AsyncClient(transport=AsyncTransport(route), trust_env=False, timeout=anthropic.DEFAULT_TIMEOUT)
    return AsyncAnthropic(**options, http_client=http_client)


def _plan(http: Any, options: dict[str, Any]) -> tuple[dict[str, Any], Route]:
    """The SDK's options and the way of its requests. A key from the environment would go to a server not meant."""
    if options.get("http_client") is not None:
        raise TypeError("nbllama.client() brings its own http_client; use anthropic.Anthropic() for another one")
    key = options.get("api_key")
    base_url = options.get("base_url") or (os.environ.get("NBLLAMA_BASE_URL") if key else None)
    fixed = Endpoint(str(base_url).rstrip("/"), key=key) if base_url else None
    route = Route(http, fixed, options.get("default_headers") or ())
    return {**options, "base_url": fixed.base_url if fixed else NOMINAL_URL, "api_key": key or _NO_KEY}, route
