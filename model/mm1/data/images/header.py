"""Headers of encoded images: format, size and limits, without decoding the image.

    JPEG that simplejpeg decodes -> simplejpeg's header, orientation from the metadata segments
    any other image              -> Pillow's header

The size is that of the image turned upright.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from mm1.data.images.orientation import UPRIGHT, is_sideways, jpeg_orientation, stored_orientation
from mm1.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Recognised encodings; the filter preset decides which ones are kept."""
MAX_PIXELS = 180_000_000
"""Hard limit for decoding: an image of a few kilobytes can unpack to gigabytes."""
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(struct.error, Image.DecompressionBombError),
)
"""Exceptions of Pillow's decoders on damaged files."""
JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_DEPTH_OFFSET = 24  # the header is always the first chunk
_PNG_CHUNKS_OFFSET, _PNG_CHUNK_BYTES = 8, 12
"""Bytes before the first chunk; bytes of a chunk without its data."""
_SIMPLEJPEG_COLOURS = ("YCbCr", "Gray", "RGB")
"""JPEG colour spaces that simplejpeg converts to RGB."""
_MAGIC = ((JPEG_MAGIC, "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"))
_MEDIA_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff"} | {name: f"image/{name}" for name in ("png", "webp", "gif", "bmp")}


class EncodedImage(NamedTuple):
    """An image whose header was read."""

    data: bytes
    form: str
    """Encoding, by Pillow's name."""
    stored_size: tuple[int, int]
    """Width and height before the image is turned upright, in pixels."""
    jpeg_orientation: int
    """Orientation of a JPEG that simplejpeg decodes."""
    picture: ImageFile.ImageFile | None
    """The image opened by Pillow; None for a JPEG that simplejpeg decodes."""

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8."""
        if self.picture is None:
            return self.jpeg_orientation
        if self.form == "TIFF":  # Pillow turns them itself
            return UPRIGHT
        late = {"exif": exif} if self.form == "PNG" and (exif := _png_exif(self.data)) else {}
        return stored_orientation(late | self.picture.info)

    @property
    def png_depth(self) -> int | None:
        """Bits per sample of a PNG; None for other formats."""
        return self.data[_PNG_DEPTH_OFFSET] if self.form == "PNG" else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as people see the image, in pixels."""
        width, height = self.stored_size
        return (height, width) if is_sideways(self.orientation) else (width, height)


def extension_of(data: bytes) -> str:
    """Detect the file extension of an encoded image from its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((extension for magic, extension in _MAGIC if data.startswith(magic)), "img")


def data_url(data: bytes) -> str:
    """Return an encoded image as a ``data:`` URL with its media type."""
    kind = _MEDIA_TYPES.get(extension_of(data), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def open_image(data: bytes, max_pixels: int | None = MAX_PIXELS, formats: Sequence[str] = FORMATS) -> EncodedImage:
    """Read an image's header without decoding the image.

    Args:
        data: encoded image.
        max_pixels: maximum number of pixels; None if the caller checks the size.
        formats: accepted encodings, by Pillow's names.

    Raises:
        DataError: not an image of these formats, or more pixels than ``max_pixels``.
    """
    image = (_open_jpeg(data) if "JPEG" in formats else None) or _opened_by_pillow(data, formats)
    width, height = image.stored_size
    if max_pixels is not None and width * height > max_pixels:
        raise DataError(f"image of {width} x {height} pixels, more than {max_pixels} are not decoded")
    return image


def size_of(data: bytes) -> tuple[int, int]:
    """Read width and height of an encoded image as people see it, in pixels; (0, 0) if it is no image."""
    try:
        return open_image(data, max_pixels=None).size
    except DataError:
        return 0, 0


def _png_exif(data: bytes) -> bytes:
    """Find the EXIF of a PNG, which may follow the pixels; Pillow knows that only when they are decoded."""
    position = _PNG_CHUNKS_OFFSET
    while position + _PNG_CHUNK_BYTES <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += _PNG_CHUNK_BYTES + length
    return b""


def _open_jpeg(data: bytes) -> EncodedImage | None:
    """Read the header of a common JPEG; None for other formats and JPEGs that simplejpeg cannot decode."""
    if not data.startswith(JPEG_MAGIC):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in _SIMPLEJPEG_COLOURS:
        return None
    return EncodedImage(data, "JPEG", (width, height), jpeg_orientation(data), None)


def _opened_by_pillow(data: bytes, formats: Sequence[str]) -> EncodedImage:
    picture = open_by_pillow(data, formats)
    form = "JPEG" if picture.format == "MPO" else picture.format or ""  # several JPEGs in one file; the first one is decoded
    return EncodedImage(data, form, picture.size, UPRIGHT, picture)


def open_by_pillow(data: bytes, formats: Sequence[str]) -> ImageFile.ImageFile:
    """Open an image with Pillow, which reads its header.

    Raises:
        DataError: not an image of these formats.
    """
    try:
        return Image.open(io.BytesIO(data), formats=tuple(formats))
    except UnidentifiedImageError:
        raise DataError("unreadable image (of no known format, or damaged in its first bytes)") from None
    except DECODE_ERRORS as error:
        raise DataError(f"unreadable image ({error})") from None
