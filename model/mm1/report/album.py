"""Images embedded in the page: encoded bytes in, ``data:`` URIs out, within a size budget.

Each image is shown as the model gets it: decoded by the loader's decoder and resized to a square. The original bytes would show
what a browser makes of them. An image that cannot be decoded has no URI, and the template shows a note instead.
"""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass, field

from PIL import Image

from mm1.data.images import decode, open_image
from mm1.errors import DataError
from mm1.report.config import ReportConfig
from mm1.store.base import digest_of

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP")
"""Encodings that are opened: those that the filters keep."""
PIXELATED_BELOW_PX = 96
"""Smaller images are lossless and enlarged with sharp pixels, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image for the templates."""

    uri: str = ""
    """``data:`` URI; empty if the image cannot be shown."""
    width: int = 0
    """Original size in pixels, upright."""
    height: int = 0
    side_px: int = 0
    """Size shown."""
    note: str = ""
    """Reason why the image cannot be shown."""

    @property
    def small(self) -> bool:
        """Whether to enlarge it with sharp pixels."""
        return 0 < self.side_px < PIXELATED_BELOW_PX


@dataclass(kw_only=True)
class Album:
    """Creates pictures and tracks their total size."""

    config: ReportConfig
    used_bytes: int = 0
    _made: dict[tuple[str, int | None], Picture] = field(default_factory=dict)

    def picture(self, data: bytes, side_px: int | None = None) -> Picture:
        """Convert encoded image bytes to a picture; never fails.

        Args:
            data: encoded image.
            side_px: side of the model's images in pixels; None if there is no model, for the image's longer side.
        """
        key = digest_of(data), side_px
        if key not in self._made:
            self._made[key] = self._make(data, side_px)
        made = self._made[key]
        if made.uri:  # the bytes are repeated at each occurrence, so each one counts
            if self.used_bytes + len(made.uri) * 3 // 4 > self.config.image_budget_bytes:
                return Picture(width=made.width, height=made.height, note="omitted to keep the page small")
            self.used_bytes += len(made.uri) * 3 // 4
        return made

    def _make(self, data: bytes, side_px: int | None) -> Picture:
        try:
            width, height = open_image(data, formats=FORMATS).size
            side_px = side_px or min(max(width, height), self.config.image_px)
            image = Image.fromarray(decode(data, side_px))
        except DataError as error:
            log.warning("an image was omitted from the report: %s", error)
            return Picture(note="unreadable image")
        image.thumbnail((self.config.image_px, self.config.image_px))
        return Picture(uri=_data_uri(image), width=width, height=height, side_px=image.width)


def _data_uri(image: Image.Image) -> str:
    form = "png" if image.width < PIXELATED_BELOW_PX else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, form, quality=90)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
