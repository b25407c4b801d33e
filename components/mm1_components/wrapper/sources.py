"""From an address of raw files to a local folder.

``world:<seed>`` stands for the generated toy world, so that every pipeline runs as it stands; its files are written in the
formats of real data, and from here on nothing knows that they are a toy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME
from mm1.store.base import digest_of
from mm1_components.wrapper.arguments import source_fields
from mm1_components.wrapper.cache import folder_fingerprint

if TYPE_CHECKING:
    from mm1.data.prepare.sources.roots import RawRoot

WORLD_SCHEME = "world:"
BUCKET_SCHEME = "s3://"


def raw_root(address: str, part: str, work: Path) -> RawRoot:
    """The raw files of an address: of this machine, of a bucket, or of the toy world.

    Args:
        address: a path, ``s3://bucket/prefix``, or ``world:<seed>``.
        part: what is wanted of the toy world.
        work: scratch folder.

    Raises:
        ConfigurationError: there is nothing, or the seed is not a number.
    """
    from mm1.data.prepare.sources.roots import BucketRoot, LocalRoot

    if address.startswith(BUCKET_SCHEME):
        return BucketRoot(address, work / f"raw-{part}")
    return LocalRoot(raw_files(address, part, work))


def raw_files(address: str, part: str, work: Path) -> Path:
    """The local file or folder of an address.

    Args:
        address: a path, or ``world:<seed>``.
        part: what is wanted of the toy world: captions, interleaved, text, instructions or benchmarks.
        work: scratch folder in which the toy world is written.

    Raises:
        ConfigurationError: the path does not exist, or the seed is not a number.
    """
    if not address.startswith(WORLD_SCHEME):
        path = Path(address).expanduser()
        if not path.exists():
            raise ConfigurationError(f"{part}: no such file or folder: {address}")
        return path
    seed = address.removeprefix(WORLD_SCHEME)
    if not seed.isdigit():
        raise ConfigurationError(f"{part}: {address!r} is not of the form world:<seed>, for example world:0")
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part

    return write_part(part, work / f"world-{part}", WorldConfig(seed=int(seed)))


def fingerprints(inputs: type[BaseModel], values: dict[str, Any]) -> dict[str, str]:
    """What stands for inputs that name raw files in the cache key: input -> fingerprint.

    Args:
        inputs: the step's model of its inputs.
        values: the inputs' values.

    Raises:
        ConfigurationError: a path does not exist.
    """
    result = {}
    for name in source_fields(inputs):
        value = values[name]
        is_default = value == inputs.model_fields[name].default  # such as tokenizer=train
        if not value or is_default or value.startswith(WORLD_SCHEME) or MANIFEST_NAME.match(value):
            continue
        if value.startswith(BUCKET_SCHEME):
            result[name] = _bucket_fingerprint(value)
            continue
        path = Path(value).expanduser()
        if not path.exists():
            raise ConfigurationError(f"{name}: no such file or folder: {value}")
        result[name] = folder_fingerprint(path)
    return result


def _bucket_fingerprint(address: str) -> str:
    """Names, sizes and tags of all objects; contents are not read."""
    from mm1.config.resolve import canonical_json
    from mm1.data.prepare.sources.roots import BucketRoot

    files = BucketRoot(address, Path(tempfile.gettempdir())).list()
    return digest_of(canonical_json([file.model_dump() for file in files]).encode())
