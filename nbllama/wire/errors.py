"""What a client is told when a request fails: Anthropic's error types, each with its HTTP status.

    ApiError
    ├── InvalidRequest        400  invalid_request_error
    ├── AuthenticationFailed  401  authentication_error    (never retried: x-should-retry is false)
    ├── PermissionDenied      403  permission_error
    ├── NotFound              404  not_found_error
    ├── RequestTooLarge       413  request_too_large
    ├── RateLimited           429  rate_limit_error
    ├── ServerFault           500  api_error
    └── Overloaded            529  overloaded_error

Source: reference anthropic-api §5. A validation error is 400, never 422.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from nbllama.errors import NbllamaError


class ApiError(NbllamaError):
    """An error with Anthropic's `type` and the HTTP `status` that goes with it."""

    type: ClassVar[str] = "api_error"
    status: ClassVar[int] = 500
    should_retry: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after = retry_after
        if should_retry is not None:
            self.should_retry = should_retry

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON body, which is also the data of an SSE `error` event."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        body: dict[str, Any] = {"type": "error", "error": error}
        if request_id is not None:
            body["request_id"] = request_id
        return body

    def headers(self) -> dict[str, str]:
        """The response headers that steer a client's retries."""
        headers = {}
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return headers


class InvalidRequest(ApiError):
    type = "invalid_request_error"
    status = 400
    # The same request will be refused again, here and below.
    should_retry = False


class AuthenticationFailed(ApiError):
    type = "authentication_error"
    status = 401
    # Claude Code retries a 401 ten times unless it is told not to.
    should_retry = False


class PermissionDenied(ApiError):
    type = "permission_error"
    status = 403
    should_retry = False


class NotFound(ApiError):
    type = "not_found_error"
    status = 404
    should_retry = False


class RequestTooLarge(ApiError):
    type = "request_too_large"
    status = 413
    should_retry = False


class RateLimited(ApiError):
    type = "rate_limit_error"
    status = 429


class ServerFault(ApiError):
    type = "api_error"
    status = 500


class Overloaded(ApiError):
    type = "overloaded_error"
    status = 529


ERRORS_BY_TYPE: dict[str, type[ApiError]] = {
    error.type: error
    for error in (
        InvalidRequest,
        AuthenticationFailed,
        PermissionDenied,
        NotFound,
        RequestTooLarge,
        RateLimited,
        ServerFault,
        Overloaded,
    )
}
