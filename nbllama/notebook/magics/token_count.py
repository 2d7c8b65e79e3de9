"""How many tokens a text has in a model."""

from __future__ import annotations

from typing import Any

from nbllama.wire.errors import ApiError
from nbllama.worker import connection
from nbllama.worker.connection import Endpoint


def count_tokens(endpoint: Endpoint, model: str, text: str) -> int:
    """Their number; that of a message with this text where the server knows nothing but the API.

    A model that is not loaded is loaded for it. Raises NbllamaError."""
    if not text:
        return 0
    try:
        body: dict[str, Any] = {"text": text, "model": model}
        return len(connection.request_json(endpoint, "POST", "/nbllama/tokenize", body, timeout=None)["prompt_ids"])
    except ApiError:
        # Refused for another reason, it is refused here too, and says so.
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return int(connection.request_json(endpoint, "POST", "/v1/messages/count_tokens", body)["input_tokens"])
