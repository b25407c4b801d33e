"""Entries of the step cache: ``cache/<step>/<key>.json`` with the outputs of finished work.

An entry is a memory, not a fact: others can write to a store, life-cycle rules remove objects, disks lose data. It counts only
if it is the entry of this work, its outputs are valid outputs of the step, and the store has everything that they name.
Otherwise the work is done again, which also restores what was lost.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from mm1.config.resolve import explain, validate
from mm1.errors import CheckpointError, ConfigurationError, DataError
from mm1.manifests import MANIFEST_NAME, Manifest, load_whole, manifest_key
from mm1.store.base import BlobRef, Store
from mm1_components.wrapper.arguments import MANIFEST, role_of

log = logging.getLogger("mm1")

_REFERENCE = re.compile(r"@([0-9a-f]{64})")
MAX_REASON_LENGTH = 200


class _Entry(BaseModel):
    """An entry; of later versions, fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    outputs: dict[str, Any]
    """Addresses of manifests are ``@<digest>``."""
    artifacts: dict[str, BlobRef] = {}
    name: str = ""
    """The entry's own name, so that a copy under another name is noticed; empty in entries of MM1 0.1."""


class Result(NamedTuple):
    """What an entry remembers."""

    outputs: dict[str, Any]
    artifacts: dict[str, BlobRef]
    manifest: Manifest | None
    """The manifest of the output ``manifest``."""


def entry_name(step: str, key: str) -> str:
    """Return the object name of an entry."""
    return f"cache/{step}/{key}.json"


def recall(store: Store, name: str, outputs: type[BaseModel], kind: str = "") -> Result | None:
    """Return what an entry remembers; None without an entry, and with one that does not count (the log says why).

    Args:
        store: the store.
        name: name of the entry.
        outputs: the step's model of its outputs.
        kind: kind of the manifest of the output ``manifest``; empty for any.

    Raises:
        NetworkError: the store is unreachable.
    """
    try:
        if (value := store.read_json(name)) is None:
            return None
        entry = _Entry.model_validate(value)
        if entry.name not in ("", name):
            raise DataError(f"it is a copy of {entry.name}")
        return _result(store, entry, outputs, kind)
    except ValidationError as error:
        reason = explain(error)
    except (DataError, CheckpointError, ConfigurationError) as error:
        reason = str(error)
    log.warning("%s/%s does not count, the work is done again: %s", store.uri, name, reason[:MAX_REASON_LENGTH])
    return None


def _result(store: Store, entry: _Entry, model: type[BaseModel], kind: str) -> Result:
    values, manifests = {}, {}
    for name, value in entry.outputs.items():
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        values[name] = f"{store.uri}/{manifest_key(match[1])}" if match else value
        is_manifest = (
            name == "manifest" or role_of(model.model_fields[name]) == MANIFEST if name in model.model_fields else False
        )
        if match:
            manifests[name] = load_whole(store, match[1], kind if name == "manifest" else "")
        elif is_manifest and value:
            raise DataError(f"{name}: expected @<digest of a manifest>, got {value!r}")
    outputs = validate(model, values, "outputs").model_dump(mode="json")
    for ref in store.lost(entry.artifacts.values()):
        raise DataError(f"artifact {ref.sha256} does not exist")
    return Result(outputs, entry.artifacts, manifests.get("manifest"))


def write_artifacts(store: Store, artifacts: dict[str, BlobRef], paths: Mapping[str, Path | None]) -> None:
    """Write remembered artifacts to files.

    Args:
        store: the store.
        artifacts: name -> content.
        paths: name -> file; None = do not write it.

    Raises:
        CheckpointError: an artifact is damaged.
    """
    for name, ref in artifacts.items():
        if path := paths.get(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get_bytes(ref))


def remember(store: Store, name: str, outputs: dict[str, Any], artifacts: dict[str, Any], code: str) -> None:
    """Write an entry; a successful execution does this last."""
    relative = {output: _relative(value) for output, value in outputs.items()}
    store.write_json(name, {"name": name, "outputs": relative, "artifacts": artifacts, "code": code})


def _relative(value: Any) -> Any:
    match = MANIFEST_NAME.match(str(value))
    return f"@{match['digest']}" if match else value
