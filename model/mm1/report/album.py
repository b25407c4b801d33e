"""Images embedded in the page: encoded bytes in, ``data:`` URIs out, within a size budget.

Small images are embedded unchanged (the same bytes that the model's loader decodes); large ones are scaled down. An image that
cannot be decoded has no URI, and the template shows a note instead.
"""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass, field

from PIL import Image, UnidentifiedImageError

from mm1.report.config import ReportConfig
from mm1.store.base import digest_of

log = logging.getLogger(__name__)

MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
PIXELATED_BELOW_PX = 96
"""Smaller images are enlarged with sharp pixels, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image for the templates."""

    uri: str = ""
    """``data:`` URI; empty if the image cannot be shown."""
    width: int = 0
    """Original size in pixels."""
    height: int = 0
    note: str = ""
    """Reason why the image cannot be shown."""

    @property
    def small(self) -> bool:
        """Whether to enlarge it with sharp pixels."""
        return 0 < max(self.width, self.height) < PIXELATED_BELOW_PX


@dataclass(kw_only=True)
class Album:
    """Creates pictures and tracks their total size."""

    config: ReportConfig
    used_bytes: int = 0
    _made: dict[str, Picture] = field(default_factory=dict)

    def picture(self, data: bytes) -> Picture:
        """Convert encoded image bytes to a picture; never fails."""
        digest = digest_of(data)
        if digest not in self._made:
            self._made[digest] = self._make(data)
        made = self._made[digest]
        if made.uri:  # the bytes are repeated at each occurrence, so each one counts
            if self.used_bytes + len(made.uri) * 3 // 4 > self.config.image_budget_bytes:
                return Picture(width=made.width, height=made.height, note="omitted to keep the page small")
            self.used_bytes += len(made.uri) * 3 // 4
        return made

    def _make(self, data: bytes) -> Picture:
        try:
            with Image.open(io.BytesIO(data)) as image:
                kind, (width, height) = image.format or "", image.size
                image.draft("RGB", (self.config.image_px, self.config.image_px))
                image.load()
                if kind not in MIME or max(width, height) > self.config.image_px:
                    data, kind = self._scaled(image), "JPEG"
        except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            log.warning("an image was omitted from the report: %s", error)
            return Picture(note="unreadable image")
        encoded = base64.b64encode(data).decode()
        return Picture(uri=f"data:{MIME[kind]};base64,{encoded}", width=width, height=height)

    def _scaled(self, image: Image.Image) -> bytes:
        copy = image.convert("RGB")
        copy.thumbnail((self.config.image_px, self.config.image_px))
        buffer = io.BytesIO()
        copy.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
