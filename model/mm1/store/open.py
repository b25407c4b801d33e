"""From an address to a store."""

from __future__ import annotations

from mm1.config.values import local_path
from mm1.errors import ConfigurationError
from mm1.store.address import BUCKET_SCHEME, check_store
from mm1.store.base import Store
from mm1.store.local import LocalStore


def open_store(uri: str) -> Store:
    """Open the store at ``file:///folder``, ``s3://bucket/prefix`` or a plain folder path to write to it; make the folder.

    Raises:
        ConfigurationError: it is no such address, or the folder is not writable.
    """
    store = _at(uri)
    if isinstance(store, LocalStore):
        store.make()
    return store


def find_store(uri: str, *, or_none_yet: bool = False) -> Store:
    """Open a store to read from it: nothing is made, and nothing needs to be writable.

    Args:
        uri: as for :func:`open_store`.
        or_none_yet: whether a folder that is not there is an empty store.

    Raises:
        ConfigurationError: it is no such address, or there is no such folder.
    """
    store = _at(uri)
    if isinstance(store, LocalStore) and not store.root.is_dir() and not or_none_yet:
        raise ConfigurationError(f"store {store.uri}: no such folder; check the address")
    return store


def _at(uri: str) -> Store:
    try:
        check_store(uri)
    except ConfigurationError as error:
        raise ConfigurationError(f"store: {error}") from None
    if uri.startswith(BUCKET_SCHEME):
        from mm1.store.s3 import S3Store  # the client costs 0.2 s: only where a bucket is used

        return S3Store(uri)
    return LocalStore(local_path(uri))
