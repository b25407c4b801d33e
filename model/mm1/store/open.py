"""From an address to a store."""

from __future__ import annotations

from mm1.config.values import local_path
from mm1.errors import ConfigurationError
from mm1.store.address import BUCKET_SCHEME, check_store
from mm1.store.base import Store
from mm1.store.local import LocalStore


def open_store(uri: str) -> Store:
    """Open the store at ``file:///folder``, ``s3://bucket/prefix`` or a plain folder path.

    Raises:
        ConfigurationError: it is no such address, or the folder is not writable.
    """
    try:
        check_store(uri)
    except ConfigurationError as error:
        raise ConfigurationError(f"store: {error}") from None
    if uri.startswith(BUCKET_SCHEME):
        from mm1.store.s3 import S3Store  # the client costs 0.2 s: only where a bucket is used

        return S3Store(uri)
    return LocalStore(local_path(uri))
