"""Time limits of requests to a bucket: the only place that decides how long a store may take.

A request ends within :func:`limit_s` seconds, with its answer or with an error: a minute, and more for the bytes that it moves.
The minute includes all attempts and the pauses between them. It holds for servers that refuse connections, that accept them and
stay silent, and that send headers or bodies byte by byte.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any, ClassVar, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import MaxRetryError, ReadTimeoutError, ResponseError

CALL_S = 60.0
"""Time limit of a request that moves few bytes, s."""
CONNECT_S = 5.0
SILENCE_S = 20.0
"""Longest time in which a server sends nothing, s; three of them make a minute."""
POST_S = 300.0
"""Time limit of a POST, s: a server that joins the parts of a large upload sends spaces until it is done."""
SLOWEST_BYTES_PER_S = 100_000
"""Rate below which a transfer counts as hanging."""


def limit_s(num_bytes: int, method: str | None = "GET") -> float:
    """Return the time limit of a request that moves a number of bytes, s."""
    return (POST_S if method == "POST" else CALL_S) + num_bytes / SLOWEST_BYTES_PER_S


class TooSlow(TimeoutError):
    """An answer arrives, but too slowly to wait for its end."""


class Retries(urllib3.Retry):
    """Attempts within the time limit. Only a timeout counts as a read error; a reset connection is as good as a refused one."""

    until = math.inf
    """Monotonic clock after which there is no further attempt, s."""
    num_failed: ClassVar[int] = 0
    """Attempts of this process that have failed, for the progress of a training."""

    def started(self, num_bytes: int, method: str = "GET") -> Self:
        """Return the attempts of a request that starts now and sends a number of bytes."""
        retries = self.new()
        retries.until = time.monotonic() + limit_s(num_bytes, method)
        return retries

    def new(self, **kw: Any) -> Self:
        """Copy, with the same end."""
        copy = super().new(**kw)
        copy.until = self.until
        return copy

    def increment(
        self, method: str | None = None, url: str | None = None, response: Any = None, error: Exception | None = None,
        _pool: Any = None, _stacktrace: Any = None,
    ) -> Self:  # fmt: skip
        """Count a failed attempt.

        Raises:
            MaxRetryError: there is no further one.
        """
        Retries.num_failed += 1
        if time.monotonic() >= self.until:
            raise MaxRetryError(_pool, url or "", error or ResponseError(ResponseError.GENERIC_ERROR))
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_backoff_time(self) -> float:
        """Return the pause before the next attempt, s."""
        return max(0.0, min(super().get_backoff_time(), self.until - time.monotonic()))

    def get_retry_after(self, response: Any) -> float | None:
        """Return the pause that a server asks for, s, up to the longest pause of ours."""
        seconds = super().get_retry_after(response)
        return None if seconds is None else max(0.0, min(seconds, self.backoff_max, self.until - time.monotonic()))

    def _is_read_error(self, err: Exception) -> bool:
        return isinstance(err, ReadTimeoutError)


class _TimedReader(io.RawIOBase):
    """The bytes of an answer. Only the time spent waiting for the server counts, not the reader's own work."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, method: str | None) -> None:
        self._sock, self._raw, self._method = sock, raw, method
        self._silence_s = sock.gettimeout() or SILENCE_S
        self._waited_s, self._num_bytes = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = limit_s(self._num_bytes, self._method) - self._waited_s
        self._sock.settimeout(max(0.001, min(self._silence_s, left)))
        started = time.monotonic()
        try:
            number: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if left <= self._silence_s:
                raise TooSlow(f"{self._num_bytes} bytes in {limit_s(self._num_bytes, self._method):.0f} s") from None
            raise
        self._waited_s += time.monotonic() - started
        self._num_bytes += number or 0
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach(), method))


class _HTTPConnection(HTTPConnection):
    response_class = _Answer


class _HTTPSConnection(HTTPSConnection):
    response_class = _Answer


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class Connections(urllib3.PoolManager):
    """Connections whose requests have the time limits of this module.

    Args:
        retries: attempts; limited in time if they are :class:`Retries`.
        connect_s: time limit of a connection.
        silence_s: longest time in which the server sends nothing.
    """

    def __init__(self, retries: urllib3.Retry | int, connect_s: float = CONNECT_S, silence_s: float = SILENCE_S) -> None:
        super().__init__(retries=retries, maxsize=16)
        self.retries, self.connect_s, self.silence_s = retries, connect_s, silence_s
        self.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request; its attempts, connection, body and answer are limited."""
        num_bytes = len(options.get("body") or b"")
        if isinstance(self.retries, Retries):
            options["retries"] = self.retries.started(num_bytes, method)
        # urllib3 limits the time to send a body by `connect`
        options["timeout"] = urllib3.Timeout(connect=self.connect_s + num_bytes / SLOWEST_BYTES_PER_S, read=self.silence_s)
        return super().urlopen(method, url, redirect, **options)
