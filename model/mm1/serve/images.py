"""Images of a request: `data:` URLs only, checked before decoding."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image

from mm1.serve.config import ServeSettings

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<base64>;base64)?,", re.IGNORECASE)


class BadRequest(Exception):
    """A request that is refused with an error reply."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def image_from_uri(uri: str, param: str, settings: ServeSettings) -> bytes:
    """Extract the encoded image of a `data:` URL.

    Raises:
        BadRequest: it is another kind of URL or not an image, or the image has too many pixels.
    """
    match = _DATA_URI.match(uri)
    if not match:
        scheme = uri.partition(":")[0].lower() if ":" in uri[:16] else "unknown"
        if scheme in ("http", "https"):
            raise BadRequest(
                "images are not fetched from the network: send the image itself as a data: URL (data:image/png;base64,...)",
                param,
                "remote_image",
            )
        raise BadRequest("image_url must be a data: URL (data:image/png;base64,...)", param, "invalid_image_url")
    if not match["base64"]:
        raise BadRequest("a data: URL must be base64-encoded (data:image/png;base64,...)", param, "invalid_image_url")
    try:
        data = base64.b64decode(uri[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("the base64 data of the image is damaged", param, "invalid_image") from None
    check_image(data, param, settings)
    return data


def check_image(data: bytes, param: str, settings: ServeSettings) -> None:
    """Check the format and the size of an image from its header, without decoding it.

    Raises:
        BadRequest: it is not an image of a supported format, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise BadRequest("the image has far too many pixels: send a smaller one", param, "image_too_large") from None
    except (OSError, ValueError, SyntaxError):
        raise BadRequest(f"not an image in a supported format ({', '.join(FORMATS)})", param, "invalid_image") from None
    if width * height > settings.max_image_pixels:
        raise BadRequest(
            f"the image has {width} x {height} pixels, more than the {settings.max_image_pixels} allowed: send a smaller one",
            param,
            "image_too_large",
        )
