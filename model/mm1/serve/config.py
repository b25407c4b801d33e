"""Settings of the server: its limits. Torch-free."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from mm1.config.base import Config
from mm1.config.values import quoted

_HOST = re.compile(r"\*|(\*\.)?[-.a-zA-Z0-9]+")
_ORIGIN = re.compile(r"\*|https?://[^/,*\s]+")
"""As in charts/mm1/values.schema.json."""


class ServeSettings(Config):
    """Limits of a request, and who may send one."""

    model_name: str = Field(default="mm1", min_length=1)
    """Name of the model in the list of models and in requests."""
    model_root: str = ""
    """Digest or folder of the model in the list of models, for ``mm1 lineage``; empty = the name."""
    max_request_bytes: int = Field(default=20 << 20, ge=1024)
    """Maximum size of a request body in bytes."""
    max_open_bytes: int = Field(default=512 << 20, ge=1024)
    """Maximum size of the bodies of all requests that are being answered, in bytes; further ones are refused for now."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of new tokens per answer; None = the model's context."""
    default_max_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of new tokens if the request sets none; None = as many as fit `max_tokens` and the context."""
    max_choices: int = Field(default=64, ge=1)
    """Maximum number of answers per request: `n` times the number of prompts."""
    max_images: int = Field(default=16, ge=0)
    """Maximum number of images per request (MM1 packs up to 16 into a sequence)."""
    max_image_pixels: int = Field(default=16_000_000, ge=1)
    """Maximum number of pixels (width times height) per image."""
    image_hosts: tuple[str, ...] = ()
    """Hosts from which images are fetched: names, ``*.example.com`` or ``*``; empty = none. Public addresses only."""
    image_timeout_s: float = Field(default=10.0, gt=0)
    """Total time for fetching an image, s."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may send requests, such as ``https://chat.example.com``, or ``*``."""
    prepare_threads: int = Field(default=2, ge=1)
    """Threads that parse and tokenise requests."""
    drain_s: float = Field(default=20.0, ge=0)
    """Time for running answers to end after a stop signal, s; new requests are refused meanwhile."""

    @field_validator("image_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"expected names of hosts such as images.example.com, *.example.com or *, got {quoted(host)}")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what equals no browser's Origin header; a slash at the end is dropped, letters become lower case."""
        origins = tuple(origin.removesuffix("/").lower() for origin in origins)
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"expected origins such as https://chat.example.com, or *, got {quoted(origin)}")
        return origins
