"""Settings of the server: its limits. Torch-free."""

from __future__ import annotations

from pydantic import Field

from mm1.config.base import Config


class ServeSettings(Config):
    """Limits of a request."""

    model_name: str = "mm1"
    """Name of the model in the list of models and in requests."""
    max_request_bytes: int = Field(default=20 << 20, ge=1024)
    """Maximum size of a request body in bytes."""
    max_tokens: int = Field(default=512, ge=1)
    """Maximum number of new tokens per answer."""
    default_max_tokens: int = Field(default=64, ge=1)
    """Maximum number of new tokens if the request sets none."""
    max_images: int = Field(default=16, ge=0)
    """Maximum number of images per request (MM1 packs up to 16 into a sequence)."""
    max_image_pixels: int = Field(default=16_000_000, ge=1)
    """Maximum number of pixels (width times height) per image."""
