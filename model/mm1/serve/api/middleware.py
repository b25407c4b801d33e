"""What surrounds every request: counting, API keys, limits of bodies, and replies to unexpected errors.

::

    Counting -> Authentication -> BodyLimit -> Faults -> routes
"""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mm1.serve.api.errors import RETRY_AFTER_S, SCOPE_KEY, ApiError, as_api_error
from mm1.serve.api.keys import ApiKeys
from mm1.serve.api.metrics import Metrics

log = logging.getLogger(__name__)

OPEN_PATHS = ("/", "/favicon.ico", "/healthz", "/health", "/readyz", "/ping", "/metrics", "/limits", "/version")
"""Paths that need no key: the chat page's files, probes, metrics."""
OPEN_FOLDER = "/page/"
METHODS = ("GET", "HEAD", "POST", "OPTIONS")


class Counting:
    """ASGI middleware that counts requests by route, method and status, and error replies by code.

    Args:
        app: handles the requests.
        metrics: counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499  # the client left before the reply, as nginx logs it

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never a client's own path: labels are kept for ever
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(route, method, str(status)).inc()
            if (error := scope.get(SCOPE_KEY)) is not None:
                self.metrics.count_error(error)


class Authentication:
    """ASGI middleware that replies 401 to requests without a valid API key.

    Args:
        app: handles the requests with one.
        keys: the valid keys.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_open = scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER)
        if is_open or self.keys.accept(Headers(scope=scope).get("authorization", "")):
            await self.app(scope, receive, send)
            return
        error = ApiError("missing or wrong API key: send the header Authorization: Bearer KEY", None, "invalid_api_key", 401)
        await error.response(scope)(scope, receive, send)


class BodyLimit:
    """ASGI middleware that reads bodies up to a limit and replies 413 beyond it, and 429 when all open ones are too large.

    Args:
        app: handles requests within the limits.
        max_bytes: maximum size of a body in bytes.
        max_open_bytes: maximum size of all bodies of requests that have no reply yet, in bytes.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_open_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_open_bytes = max_open_bytes
        self.open_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []
        size = 0
        try:
            self._check(int(_declared(scope)))
            more = True
            while more:
                message = await receive()
                messages.append(message)
                chunk = len(message.get("body", b""))
                size += chunk
                self.open_bytes += chunk
                self._check(size)
                more = message["type"] == "http.request" and message.get("more_body", False)

            async def replay() -> Message:
                return messages.pop(0) if messages else await receive()

            await self.app(scope, replay, send)
        except ApiError as error:
            await error.response(scope)(scope, receive, send)
        finally:
            self.open_bytes -= size

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            message = f"the request is larger than {self.max_bytes} bytes: send smaller images"
            raise ApiError(message, None, "request_too_large", 413)
        if self.open_bytes > self.max_open_bytes:
            raise ApiError("too many large requests are open: try again", status=429, retry_after_s=RETRY_AFTER_S)


def _declared(scope: Scope) -> str:
    declared = Headers(scope=scope).get("content-length", "")
    return declared if declared.isascii() and declared.isdigit() and len(declared) < 20 else "0"


class Faults:
    """ASGI middleware that replies 500 to an unexpected error, logs it, and keeps the connection.

    Args:
        app: handles the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            pass
        except Exception as error:
            if scope["type"] != "http" or has_started:
                raise
            log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            await as_api_error(error).response(scope)(scope, receive, send)
