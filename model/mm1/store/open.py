"""Opening stores by address."""

from __future__ import annotations

from mm1.config.values import local_path
from mm1.errors import ConfigurationError
from mm1.store.address import BUCKET_SCHEME, check_store
from mm1.store.base import Store
from mm1.store.local import LocalStore


def open_store(uri: str) -> Store:
    """Open the store at ``file:///folder``, ``s3://bucket/prefix`` or a plain path for writing, and create its folder.

    Raises:
        ConfigurationError: not a store's address, or the folder is not writable.
    """
    store = _at(uri)
    if isinstance(store, LocalStore):
        store.make()
    return store


def find_store(uri: str, *, or_none_yet: bool = False) -> Store:
    """Open a store for reading: nothing is created, and nothing needs to be writable.

    Args:
        uri: as for :func:`open_store`.
        or_none_yet: whether a missing folder counts as an empty store.

    Raises:
        ConfigurationError: not a store's address, or the folder does not exist.
    """
    store = _at(uri)
    if isinstance(store, LocalStore) and not store.root.is_dir() and not or_none_yet:
        raise ConfigurationError(f"store {store.uri}: the folder does not exist; check the address")
    return store


def _at(uri: str) -> Store:
    try:
        check_store(uri)
    except ConfigurationError as error:
        raise ConfigurationError(f"store: {error}") from None
    if uri.startswith(BUCKET_SCHEME):
        from mm1.store.s3 import S3Store  # importing the client takes 0.2 s

        return S3Store(uri)
    return LocalStore(local_path(uri))
