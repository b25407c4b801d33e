"""Pins: names in a store that protect manifests, and all that they were made from, from garbage collection.

A pin is the object ``pins/<name>`` with one digest per line; :mod:`mm1.lineage.gc` keeps what it names.
"""

from __future__ import annotations

import re

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.lineage.graph import resolve
from mm1.manifests import MANIFEST_NAME, load_digest
from mm1.store.base import Store

PREFIX = "pins/"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def pins(store: Store) -> dict[str, list[str]]:
    """All pins: name -> digests of its manifests."""
    return {key.removeprefix(PREFIX): _DIGEST.findall(store.read(key).decode(errors="replace")) for key in store.list(PREFIX)}


def pin(store: Store, name: str, target: str) -> list[str]:
    """Pin manifests under a new name.

    Args:
        store: the store that holds them.
        name: letters, digits and ``-_.``.
        target: a run, of which the final manifests are pinned; or the address of a manifest, or a digest or its beginning.

    Returns:
        The digests that are pinned.

    Raises:
        ConfigurationError: the name is taken or malformed, or the target is unknown or in another store.
        DataError: a manifest is missing or damaged.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"pin: expected a name of letters, digits and -_., at most 100, got {name!r}")
    if store.exists(PREFIX + name):
        raise ConfigurationError(f"pin {name!r} exists: choose another name, or remove it first (mm1 pin {name} --remove)")
    digests = _digests(store, target)
    for digest in digests:
        load_digest(store, digest)
    store.write(PREFIX + name, "".join(f"{digest}\n" for digest in digests).encode())
    return digests


def unpin(store: Store, name: str) -> None:
    """Remove a pin; its manifests stay until the next garbage collection.

    Raises:
        ConfigurationError: there is no such pin.
    """
    names = list(pins(store))
    if name not in names:
        hint = suggest(name, names) if names else "it has no pins"
        raise ConfigurationError(f"store {store.uri} has no pin {name!r}; {hint}")
    store.delete(PREFIX + name)


def _digests(store: Store, target: str) -> list[str]:
    address = MANIFEST_NAME.match(target)
    if address is None:
        return resolve(store, target)
    if address["store"] != store.uri:
        raise ConfigurationError(f"{target} is not in {store.uri}: add --store {address['store']}")
    return [address["digest"]]
