"""Error replies, in the form of OpenAI's API: status, message, and a code that clients act on."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from mm1.errors import ConfigurationError, DataError, Mm1Error, OutOfMemory, typed
from mm1.generation.asks import Closed

KINDS = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
"""Status -> type of the error; all others are errors of the request."""
CODES = {429: "rate_limit_exceeded", 503: "service_unavailable"}
RETRY_AFTER_S = 5.0
"""Pause before the next attempt while the server shuts down or an answer failed for a passing reason."""


SCOPE_KEY = "mm1.error"
"""Key of a request's ASGI scope with the error that it got as its reply."""


class ApiError(Exception):
    """A request that gets an error reply.

    Args:
        message: field, expected and actual value, and the remedy.
        param: path of the field, such as ``messages[1].content[0]``.
        code: what clients distinguish, such as ``context_length_exceeded``.
        status: HTTP status.
        retry_after_s: pause before another attempt, s.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.param, self.status, self.retry_after_s = param, status, retry_after_s
        self.code = code or CODES.get(status)

    @property
    def kind(self) -> str:
        """The type in the reply."""
        return KINDS.get(self.status, "invalid_request_error")

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the reply."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self, scope: MutableMapping[str, Any]) -> JSONResponse:
        """Build the HTTP response, and note the error in the request's scope, where it is counted."""
        scope[SCOPE_KEY] = self
        headers = {} if self.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def wrong(path: str, expected: str, actual: str) -> ApiError:
    """Build the error of a field with a wrong value."""
    return ApiError(f"{path}: expected {expected}, got {actual}", path)


def as_api_error(error: Exception) -> ApiError:
    """Convert what ended an answer; an unexpected error is the server's, and its text stays in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Closed):
        return ApiError(f"{error}: try again", status=503, retry_after_s=RETRY_AFTER_S)
    if isinstance(error, DataError):
        return ApiError(str(error), "messages", "invalid_image")
    if isinstance(error, ConfigurationError):
        return ApiError(str(error))
    if isinstance(error, Mm1Error) or isinstance(typed(error), OutOfMemory):
        return ApiError(f"the answer failed: {error}", status=503, retry_after_s=RETRY_AFTER_S)
    return ApiError("internal server error; see the server's log", status=500)
