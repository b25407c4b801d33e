"""From an address to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from mm1.errors import ConfigurationError
from mm1.store.base import Store
from mm1.store.local import LocalStore


def open_store(uri: str) -> Store:
    """Open the store at ``file:///folder``, ``s3://bucket/prefix`` or a plain folder path.

    Raises:
        ConfigurationError: the address has another scheme, or the folder is not writable.
    """
    address = urlparse(uri)
    if address.scheme in ("", "file"):
        return LocalStore(Path(unquote(address.path) if address.scheme else uri).expanduser())
    if address.scheme == "s3":
        from mm1.store.s3 import S3Store  # the client costs 0.2 s: only where a bucket is used

        return S3Store(uri)
    raise ConfigurationError(f"store {uri!r}: unknown scheme {address.scheme!r}; use file:// or s3://")
