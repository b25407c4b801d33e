"""Settings of the server: limits that protect it. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from mm1.config.base import Config


class ServeSettings(Config):
    """What a request may ask for."""

    model_name: str = "mm1"
    """Name under which the model is listed and asked for."""
    max_request_bytes: int = Field(default=20 << 20, ge=1024)
    """Bytes of a request body at most."""
    max_tokens: int = Field(default=512, ge=1)
    """New tokens of one answer at most."""
    default_max_tokens: int = Field(default=64, ge=1)
    """New tokens when the request names no limit."""
    max_images: int = Field(default=16, ge=0)
    """Images of one request at most (MM1 packs up to 16 into a sequence)."""
    max_image_pixels: int = Field(default=16_000_000, ge=1)
    """Pixels (width times height) of one image at most."""
