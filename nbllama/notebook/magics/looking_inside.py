"""`%llama tokens`, `%llama trace` and `%llama format`: what a model made of a text, of a request, of its template."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from IPython.core.error import UsageError

from nbllama.notebook.kernel_link import link
from nbllama.notebook.served_models import model_of
from nbllama.notebook.trace import last_trace, trace
from nbllama.worker import connection

_VERDICTS = {True: "read back", False: "NOT READ BACK", None: "not rendered"}


def tokens_shown(*words: str) -> Any:
    """The tokens of a text in the server's default model. Raises TraceError."""
    from nbllama.notebook.on_text import tokens

    return tokens(" ".join(words))


def trace_shown(id: str = "") -> Any:
    """The trace of this kernel's last request, or of that with this id. Raises TraceError, UsageError."""
    found = trace(id) if id else last_trace()
    if found is None:
        raise UsageError("%llama trace: this kernel has asked nothing yet; `nbllama.traces()` lists your last requests")
    return found


def format_text(model: str = "") -> str:
    """How a model writes calls and thinking, and which renderings of its template are read back so.

    Raises NbllamaError; NotFound with near matches for a model that is none."""
    endpoint = link.endpoint()
    found = connection.request_json(
        endpoint, "GET", f"/nbllama/format?model={quote(model_of(endpoint, model))}", timeout=None
    )
    lines = [f"model       {found['id']}", f"family      {found['family']} ({found['source']})"]
    lines += [f"{_VERDICTS[passed]:<15} {name}" for name, passed in found["checks"].items()]
    lines += [f"warning     {warning}" for warning in found["warnings"]]
    return "\n".join([*lines, json.dumps(found["format"], ensure_ascii=False, indent=2)])
