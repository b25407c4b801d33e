"""HTTP client of an OpenAI-compatible API: retries, errors by class, the key. Torch-free.

429, 5xx, timeouts, lost connections   repeated with growing waits, or after Retry-After, until the time is up
401, 403, 404, other 4xx               an error at once, with the server's message
a web page in place of JSON            an error at once, unless the server has answered before

The key is never part of a message, even if the server repeats it.
"""

from __future__ import annotations

import email.utils
import logging
import os
import random
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from mm1.errors import ConfigurationError, NetworkError
from mm1.evals.models.config import ModelSettings

log = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0
RETRIED = (408, 409, 425, 429)
"""Status codes below 500 that another attempt may not have."""


class Refused(ConfigurationError):
    """A request that the server refuses.

    Args:
        message: the error message.
        status: the HTTP status.
        reason: the server's message.
    """

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class ApiClient:
    """A client of one address. Safe to use from several threads.

    Args:
        address: the address up to and including ``/v1``.
        settings: key, timeouts, number of connections.
        transport: HTTP transport; the network by default.
    """

    def __init__(self, address: str, settings: ModelSettings, transport: httpx.BaseTransport | None = None) -> None:
        self.address = checked_address(address)
        self.settings = settings
        self._closing = threading.Event()
        self._key = read_key(settings.api_key_file)
        self._has_answered = False
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(settings.request_timeout_s, connect=min(10.0, settings.request_timeout_s)),
            limits=httpx.Limits(max_connections=settings.concurrency),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; requests that wait for another attempt fail."""
        self._closing.set()
        self._client.close()

    def only_model(self) -> str:
        """Return the name of the only model that the server has.

        Raises:
            ConfigurationError: it has several, or does not list them.
        """
        answer = self.request("GET", "models")
        rows = answer.get("data") if isinstance(answer, dict) else None
        names = [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
        if len(names) != 1:
            listed = f"has {len(names)} models ({', '.join(names[:8])})" if names else "does not list its models"
            raise ConfigurationError(f"{self.address} {listed}: give one with --model-name")
        return names[0]

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request until it is answered, and return the JSON of the answer.

        Raises:
            Refused: the server refuses it.
            NetworkError: no answer within the time for retries.
        """
        deadline = time.monotonic() + self.settings.retry_s
        attempt = 0
        while True:
            failure, wait_s = self._attempt(method, path, body)
            if isinstance(failure, dict):
                return failure
            attempt += 1
            wait_s = wait_s if wait_s is not None else _backoff(attempt)
            if time.monotonic() + wait_s > deadline or self._closing.is_set():
                raise NetworkError(f"{self.address}/{path}: {failure}, after {attempt} attempt(s)")
            log.info("%s/%s: %s, another attempt in %.1f s", self.address, path, failure, wait_s)
            self._closing.wait(wait_s)

    def _attempt(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[dict[str, Any] | str, float | None]:
        """Send a request once; return its answer, or why it failed and the wait that the server asks for."""
        try:
            response = self._client.request(method, f"{self.address}/{path}", json=body)
        except httpx.TimeoutException:
            return f"no answer within {self.settings.request_timeout_s:g} s", None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigurationError(f"{self.address}: {error}") from None
        except httpx.TransportError as error:
            return f"the connection failed ({error})", None
        if response.status_code >= 500 or response.status_code in RETRIED:
            return f"status {response.status_code}: {self._reason(response)}", _retry_after(response)
        if response.status_code >= 300:
            raise self._refused(path, response)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            if not self._has_answered and "html" in response.headers.get("content-type", ""):
                reason = "the answer is a web page, not JSON; check the address, which usually ends in /v1"
                raise Refused(f"{self.address}/{path}: {reason}", 404, reason) from None
            return "the answer is not JSON", None
        if not isinstance(answer, dict):
            return "the answer is not a JSON object", None
        if answer.get("error") and "choices" not in answer:  # routers answer with status 200 when a provider failed
            return self._reason(response), None
        self._has_answered = True
        return answer, None

    def _refused(self, path: str, response: httpx.Response) -> Refused:
        reason, status = self._reason(response), response.status_code
        remedy = {
            401: f"; set {KEY_VARIABLE} or give --api-key-file",
            403: f"; check the rights of the key in {KEY_VARIABLE} or --api-key-file",
            404: "; check the address, which usually ends in /v1, and --model-name",
        }.get(status, "")
        if status in (400, 413, 422) and "context" in reason:
            remedy = "; use fewer demonstrations"
        return Refused(f"{self.address}/{path}: status {status}: {reason}{remedy}", status, reason)

    def _reason(self, response: httpx.Response) -> str:
        """Return the message of an error answer, in OpenAI's form or as text, without the key."""
        try:
            content: Any = response.json()
            error = content.get("error", content)
            text = error.get("message", error) if isinstance(error, dict) else error
        except (ValueError, AttributeError, RecursionError):
            text = response.text
        text = " ".join(str(text).split()) or response.reason_phrase
        return (text.replace(self._key, "(the key)") if self._key else text)[:300]


def checked_address(address: str) -> str:
    """Return an address without a slash at its end.

    Raises:
        ConfigurationError: it is no http address, or has a password or a query, which would appear in messages and reports.
    """
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"model: expected an address such as http://host:8000/v1: {error}") from None
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError(
            f"model: expected an address without user, password and query, such as {url.scheme}://{url.host}/v1; "
            f"give a key by {KEY_VARIABLE} or --api-key-file"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"model: expected an address such as http://host:8000/v1, got {address!r}")
    return address.rstrip("/")


def read_key(file: str) -> str:
    """Return the API key of a file, or of the environment; empty if there is none.

    Raises:
        ConfigurationError: the file cannot be read or is empty, or the key has characters that no key has.
    """
    if not file:
        key, source = os.environ.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE
    else:
        source = f"--api-key-file: {file}"
        try:
            key = Path(file).expanduser().read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"{source} cannot be read") from None
    if (file and not key) or any(not "!" <= letter <= "~" for letter in key):
        raise ConfigurationError(f"{source}: expected one line with the key, in ASCII characters without spaces")
    return key


def _backoff(attempt: int) -> float:
    return min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt - 1, 10)) * random.uniform(0.5, 1.0)


def _retry_after(response: httpx.Response) -> float | None:
    """Return the wait of Retry-After in seconds, which is a number or a date."""
    text = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return None
