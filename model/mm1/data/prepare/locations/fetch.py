"""Opt-in fetching of remote images over http(s): from public addresses only, within a total time and size.

::

    address -> host -> all its IP addresses, each checked -> connection to one of them -> redirect, or bytes

A host is resolved once, and the connection goes to an IP address that was checked, so the answer of a name server cannot change
in between. Certificates are verified for the host's name. Redirects are checked in the same way.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from http import HTTPStatus
from urllib.parse import urljoin

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.util import Url, parse_url

from mm1.config.values import quoted
from mm1.data.prepare.locations.names import shown
from mm1.data.prepare.locations.networks import is_public

log = logging.getLogger(__name__)

MAX_BYTES = 20_000_000
MAX_REDIRECTS = 3
TIMEOUT_S = 30.0
CONNECT_S = 5.0
MAX_ATTEMPTS = 3
BACKOFF_S = 0.5
WORKERS, PER_HOST = 16, 4
MAX_LOGGED = 5
"""Failures of a kind that are logged one by one; the others are only counted."""
REDIRECTS = {301, 302, 303, 307, 308}
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that are worth another attempt."""
USER_AGENT = "mm1"

Resolve = Callable[[str, int], list[str]]
"""Host and port -> IP addresses."""


class FetchError(Exception):
    """An image that is not fetched.

    Args:
        reason: for people: ``timeout``, ``status 404``, ``not a public address``, ``host not allowed`` ...
        is_transient: whether another attempt may succeed.
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver for the IP addresses of a host."""
    addresses = (str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))
    return list(dict.fromkeys(addresses))


class Fetcher:
    """Fetches images by address; may be called from several threads.

    Args:
        private: also allow addresses that are not public, such as those of private networks and of this machine.
        max_bytes: larger images are skipped; limit of the decoded content, too.
        timeout_s: total time for an image, s: name servers, all attempts and redirects.
        workers: images that :meth:`fetch_many` fetches at the same time.
        per_host: images that it fetches from the same host at the same time.
        resolve: resolver of host names.
        allows: whether images may be fetched from a host, also after a redirect; by default from all.
    """

    def __init__(
        self,
        *,
        private: bool = False,
        max_bytes: int = MAX_BYTES,
        timeout_s: float = TIMEOUT_S,
        workers: int = WORKERS,
        per_host: int = PER_HOST,
        resolve: Resolve = resolve,
        allows: Callable[[str], bool] | None = None,
    ) -> None:
        self.private = private
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self.workers = workers
        self.per_host = per_host
        self.num_fetched = 0
        self.failures: Counter[str] = Counter()
        """Reason -> number of images that were not fetched."""
        self._resolve = resolve
        self._allows = allows
        self._lock = threading.Lock()

    @property
    def num_failed(self) -> int:
        """Number of images that were not fetched."""
        return self.failures.total()

    def report(self) -> str:
        """Describe what was fetched, the most frequent failures first: ``fetched 90, failed 10 (timeout 7, status 404 3)``."""
        reasons = sorted(self.failures.items(), key=lambda item: (-item[1], item[0]))
        failed = f" ({', '.join(f'{reason} {count}' for reason, count in reasons)})" if reasons else ""
        return f"fetched {self.num_fetched}, failed {self.num_failed}{failed}"

    def get(self, address: str) -> bytes:
        """Fetch an image.

        Raises:
            FetchError: it was not fetched.
        """
        return self._fetch(address, time.monotonic() + self.timeout_s)

    def __call__(self, address: str) -> bytes:
        """Fetch an image; empty bytes on failure (logged, counted by reason, and dropped by the filters)."""
        try:
            data = self.get(address)
        except FetchError as failure:
            with self._lock:
                self.failures[failure.reason] += 1
                level = logging.INFO if self.failures[failure.reason] <= MAX_LOGGED else logging.DEBUG
            log.log(level, "not fetched: %s (%s)", quoted(shown(address)), failure.reason)
            return b""
        with self._lock:
            self.num_fetched += 1
        return data

    def fetch_many(self, addresses: Iterable[str]) -> dict[str, bytes]:
        """Fetch a batch of images concurrently; each address once.

        Memory holds the whole batch, so choose batches of about a hundred images.

        Args:
            addresses: addresses of images; the order does not matter.

        Returns:
            Address -> image; empty bytes on failure.
        """
        queues: dict[str, deque[str]] = defaultdict(deque)
        for address in dict.fromkeys(addresses):
            queues[_host_of(address)].append(address)
        images: dict[str, bytes] = {}

        def drain(queue: deque[str]) -> None:
            with suppress(IndexError):  # empty
                while True:
                    address = queue.popleft()
                    images[address] = self(address)

        rounds = [queue for number in range(self.per_host) for queue in queues.values() if number < len(queue)]
        executor = ThreadPoolExecutor(max(1, min(self.workers, len(rounds))))
        try:
            for done in [executor.submit(drain, queue) for queue in rounds]:
                done.result()
        finally:  # on a signal, what has not begun is not fetched
            for queue in queues.values():
                queue.clear()
            executor.shutdown(cancel_futures=True)
        return images

    # -- one image ------------------------------------------------------------------------------------------------------

    def _fetch(self, address: str, deadline: float) -> bytes:
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self._follow(address, deadline)
            except FetchError as failure:
                pause = BACKOFF_S * 2**attempt
                if not failure.is_transient or attempt == MAX_ATTEMPTS - 1 or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _follow(self, address: str, deadline: float) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            url = _parse(address)
            if self._allows is not None and not self._allows(str(url.hostname).strip("[]")):
                raise FetchError("host not allowed")
            with self._connected(url, deadline) as connection:
                redirect, data = self._get(connection, url)
            if redirect is None:
                return data
            address = _joined(address, redirect)
        raise FetchError("too many redirects")

    @contextmanager
    def _connected(self, url: Url, deadline: float) -> Iterator[http.client.HTTPConnection]:
        """Connect to a checked address; whatever is done with the connection ends at the deadline."""
        host, port = str(url.hostname).strip("[]"), url.port or (443 if url.scheme == "https" else 80)
        sock = self._connect(host, port, deadline)
        if url.scheme == "https":
            sock = self._tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        is_late = threading.Event()

        def stop() -> None:  # a timeout of the socket starts again with each byte
            is_late.set()
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, deadline - time.monotonic()), stop)
        timer.daemon = True
        timer.start()
        connection = http.client.HTTPConnection(host, port)
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.sock = sock
            yield connection
            if is_late.is_set():  # the end of the connection may read like the end of the answer
                raise TimeoutError
        except ssl.SSLCertVerificationError as error:
            raise FetchError("invalid certificate") from error
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
            if is_late.is_set() or isinstance(error, TimeoutError):
                raise FetchError("timeout", is_transient=True) from error
            is_lost = isinstance(error, (OSError, http.client.IncompleteRead, urllib3.exceptions.ProtocolError))
            raise FetchError("connection lost" if is_lost else "damaged answer", is_transient=is_lost) from error
        finally:
            timer.cancel()
            connection.close()
            sock.close()

    def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        addresses = self._addresses(host, port, deadline)
        if not addresses:
            raise FetchError("unknown host")
        if not self.private and not all(map(is_public, addresses)):
            raise FetchError("not a public address")
        is_slow = False
        for address in addresses:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise FetchError("timeout")
            try:
                sock = socket.create_connection((address, port), min(CONNECT_S, remaining))
                sock.settimeout(max(0.01, deadline - time.monotonic()))
                return sock
            except OSError as error:
                is_slow = isinstance(error, TimeoutError)
        raise FetchError("timeout" if is_slow else "connection refused", is_transient=True)

    def _addresses(self, host: str, port: int, deadline: float) -> list[str]:
        """Resolve a host in a thread, which ends by itself: the system's resolver has no time limit of ours."""
        future: Future[list[str]] = Future()

        def ask() -> None:
            try:
                future.set_result(self._resolve(host, port))
            except Exception as error:  # noqa: BLE001 - raised again below
                future.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise FetchError("timeout") from error
        except (OSError, ValueError) as error:  # ValueError: a label that is empty, too long or not encodable
            is_transient = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise FetchError("unknown host", is_transient=is_transient) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def _get(self, connection: http.client.HTTPConnection, url: Url) -> tuple[str | None, bytes]:
        """Return the target of a redirect, or the content."""
        host = f"{url.hostname}:{url.port}" if url.port else str(url.hostname)
        headers = {
            "Host": host,
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        connection.request("GET", url.request_uri, headers=headers)
        with closing(connection.getresponse()) as answer:
            if answer.status in REDIRECTS:
                return answer.headers.get("Location", ""), b""
            if answer.status != HTTPStatus.OK:
                raise FetchError(f"status {answer.status}", is_transient=answer.status in TRANSIENT)
            if answer.length is not None and answer.length > self.max_bytes:
                raise FetchError("too large")
            # urllib3 decodes what some servers compress unasked, within the memory of what is read
            body = urllib3.HTTPResponse(answer, HTTPHeaderDict(answer.headers.items()), answer.status, preload_content=False)
            data = body.read(self.max_bytes + 1)
        if len(data) > self.max_bytes:
            raise FetchError("too large")
        return None, data


def _parse(address: str) -> Url:
    try:
        url = parse_url(address)
    except (urllib3.exceptions.LocationParseError, UnicodeError) as error:
        raise FetchError("not an http address") from error
    if url.scheme not in ("http", "https") or not url.hostname:
        raise FetchError("not an http address")
    return url._replace(auth=None, fragment=None)


def _joined(address: str, redirect: str) -> str:
    try:
        return urljoin(address, redirect)
    except ValueError as error:
        raise FetchError("not an http address") from error


def _host_of(address: str) -> str:
    try:
        return _parse(address).netloc or ""
    except FetchError:
        return ""
