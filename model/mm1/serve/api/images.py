"""Images of a request: from `data:` URLs, or fetched from allowed hosts, and checked before decoding.

The formats are those of the decoder (:mod:`mm1.data.images`), recognised by the first bytes whatever the media type says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mm1.config.values import quoted
from mm1.data.images import FORMATS, foreign_format, open_image
from mm1.errors import DataError
from mm1.serve.api.data_urls import data_of, is_data_url
from mm1.serve.api.errors import ApiError
from mm1.serve.config import ServeSettings

EXAMPLE = "data:image/png;base64,..."


@dataclass(frozen=True)
class RemoteImage:
    """An image that is fetched before the request is answered."""

    url: str
    path: str
    """Field of the request, for error messages."""

    def read_bytes(self) -> bytes:
        """Refuse: the image has not been fetched."""
        raise DataError(f"{self.path}: the image has not been fetched")


def image_of(url: str, path: str, settings: ServeSettings) -> bytes | RemoteImage:
    """Return the encoded image of a URL, or the address from which it is fetched.

    Args:
        url: `data:` URL, or http(s) address of an allowed host.
        path: field of the request, for error messages.
        settings: limits.

    Raises:
        ApiError: another kind of URL, a host that is not allowed, not an image, or too many pixels.
    """
    url = url.strip()
    if is_data_url(url):
        try:
            data = data_of(url)
        except ValueError as error:
            raise ApiError(f"{path}: {error}", path, "invalid_image_url") from None
        check_image(data, path, settings)
        return data
    if url[:8].lower().startswith(("http://", "https://")):
        check_host(url, path, settings.image_hosts)
        return RemoteImage(url, path)
    raise ApiError(f"{path}: expected a data: URL ({EXAMPLE}), got {quoted(url[:40])}", path, "invalid_image_url")


def check_host(url: str, path: str, hosts: Sequence[str]) -> None:
    """Refuse an address whose host is not in the list.

    Raises:
        ApiError: the host is not allowed.
    """
    if not hosts:
        message = f"images are not fetched from the network: send the image itself as a data: URL ({EXAMPLE})"
        raise ApiError(f"{path}: {message}", path, "remote_image")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not is_allowed(host, hosts):
        message = f"images are fetched from {', '.join(hosts)} only, not from {quoted(host)}: send a data: URL ({EXAMPLE})"
        raise ApiError(f"{path}: {message}", path, "remote_image")


def is_allowed(host: str, hosts: Sequence[str]) -> bool:
    """Whether a host is in a list of names; ``*.example.com`` allows the names below example.com, ``*`` allows all."""
    name = host.lower().rstrip(".")
    return bool(name) and any(
        pattern == "*" or name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
        for pattern in (pattern.lower() for pattern in hosts)
    )


def check_image(data: bytes, path: str, settings: ServeSettings) -> None:
    """Check format and size of an encoded image by its header.

    Raises:
        ApiError: it is not an image of a supported format, or has too many pixels.
    """
    try:
        width, height = open_image(data, max_pixels=None).stored_size
    except DataError as error:
        form = foreign_format(data)
        reason = f"{form} images are not supported" if form else f"not an image of a supported format: {error}"
        supported = f"send one of {', '.join(FORMATS)}"
        message = f"{reason}; {supported}" if data else "the image is empty"
        raise ApiError(f"{path}: {message}", path, "invalid_image") from None
    if width * height > settings.max_image_pixels:
        limit = f"the image has {width} x {height} pixels, more than the {settings.max_image_pixels} allowed"
        raise ApiError(f"{path}: {limit}: send a smaller one", path, "image_too_large")
