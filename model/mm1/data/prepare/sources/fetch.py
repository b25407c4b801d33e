"""Opt-in fetching of remote images over http(s), with limits, and from public addresses only.

Addresses in data are untrusted: one that points into a private network would make this machine read from it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from urllib.parse import urljoin, urlparse

import urllib3

log = logging.getLogger(__name__)

MAX_BYTES = 20_000_000
MAX_REDIRECTS = 3
TIMEOUT = urllib3.Timeout(connect=5, read=15)
RETRIES = urllib3.Retry(
    total=2, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504], redirect=False, raise_on_status=False
)


class Fetcher:
    """Fetches images by address.

    Args:
        private: also allow private, loopback and link-local networks.
        max_bytes: larger images are skipped.
    """

    def __init__(self, *, private: bool = False, max_bytes: int = MAX_BYTES) -> None:
        self.private = private
        self.max_bytes = max_bytes
        self.num_failed = 0
        self._pool = urllib3.PoolManager(timeout=TIMEOUT, retries=RETRIES)

    def __call__(self, address: str) -> bytes:
        """Fetch an image; empty bytes on failure (logged, and counted by the filters)."""
        try:
            for _ in range(1 + MAX_REDIRECTS):
                redirect, data = self._get(address)
                if redirect is None:
                    return data
                address = urljoin(address, redirect)
            raise ValueError("too many redirects")
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            self.num_failed += 1
            log.info("not fetched: %s (%s)", address[:100], type(error).__name__ if not str(error) else str(error)[:100])
            return b""

    def _get(self, address: str) -> tuple[str | None, bytes]:
        """Return the redirect target or the content."""
        self._check(address)
        response = self._pool.request("GET", address, preload_content=False)
        try:
            if response.status in (301, 302, 303, 307, 308):
                return str(response.headers.get("Location", "")), b""
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            data = response.read(self.max_bytes + 1)
            if len(data) > self.max_bytes:
                raise ValueError(f"larger than {self.max_bytes} bytes")
            return None, data
        finally:
            response.close()

    def _check(self, address: str) -> None:
        parts = urlparse(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http address")
        if self.private:
            return
        for info in socket.getaddrinfo(parts.hostname, parts.port or 443, proto=socket.IPPROTO_TCP):
            if not ipaddress.ip_address(info[4][0]).is_global:
                raise ValueError("an address of a private network")
