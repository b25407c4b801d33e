"""Pictures inside the page: encoded bytes in, ``data:`` addresses out, within a budget of bytes.

Small pictures go in as they are (the very bytes that the model's loader decodes); large ones are scaled down. What cannot be
decoded gives no address, and the template writes so in its place.
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
"""A smaller picture is shown enlarged, with its pixels kept sharp."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the template needs it."""

    uri: str = ""
    """``data:`` address; empty when it cannot be shown."""
    width: int = 0
    """Pixels of the original."""
    height: int = 0
    note: str = ""
    """Why it cannot be shown."""

    @property
    def small(self) -> bool:
        """Whether it is to be enlarged with sharp pixels."""
        return 0 < max(self.width, self.height) < PIXELATED_BELOW_PX


@dataclass(kw_only=True)
class Album:
    """Makes pictures and keeps count of their bytes."""

    config: ReportConfig
    used_bytes: int = 0
    _made: dict[str, Picture] = field(default_factory=dict)

    def picture(self, data: bytes) -> Picture:
        """A picture of encoded image bytes; never fails."""
        digest = digest_of(data)
        if digest not in self._made:
            self._made[digest] = self._make(data)
        made = self._made[digest]
        if made.uri:  # the page repeats the bytes at each place, so each place counts
            if self.used_bytes + len(made.uri) * 3 // 4 > self.config.image_budget_bytes:
                return Picture(width=made.width, height=made.height, note="left out to keep the page small")
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
            log.warning("a picture was left out of the report: %s", error)
            return Picture(note="unreadable image")
        encoded = base64.b64encode(data).decode()
        return Picture(uri=f"data:{MIME[kind]};base64,{encoded}", width=width, height=height)

    def _scaled(self, image: Image.Image) -> bytes:
        copy = image.convert("RGB")
        copy.thumbnail((self.config.image_px, self.config.image_px))
        buffer = io.BytesIO()
        copy.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
