"""From an address of raw files to a local folder.

``world:<seed>`` stands for the generated toy world, so that every pipeline runs as it stands; its files are written in the
formats of real data, and from here on nothing knows that they are a toy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mm1.errors import ConfigurationError
from mm1_components.step import BUCKET_SCHEME, WORLD_SCHEME

if TYPE_CHECKING:
    from mm1.data.sources.roots import RawRoot


def raw_root(address: str, part: str, work: Path) -> RawRoot:
    """The raw files of an address: of this machine, of a bucket, or of the toy world.

    Args:
        address: a path, ``s3://bucket/prefix``, or ``world:<seed>``.
        part: what is wanted of the toy world.
        work: scratch folder.

    Raises:
        ConfigurationError: there is nothing, or the seed is not a number.
    """
    from mm1.data.sources.roots import BucketRoot, LocalRoot

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
