"""Addresses that inputs take: which kinds each of them reads, and the files that an address stands for.

``world:<seed>`` stands for the generated toy world, so that every pipeline runs as it stands; its files are written in the
formats of real data, and from here on nothing knows that they are a toy.
"""

from __future__ import annotations

import errno
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from mm1.config.values import FILE_SCHEME, local_path, parse_integer, quoted
from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME
from mm1.store.address import BUCKET_SCHEME, check_store, scheme_of, split_bucket
from mm1.store.base import digest_of
from mm1_components.wrapper.arguments import MANIFEST, SOURCE, role_of, source_fields
from mm1_components.wrapper.cache import folder_fingerprint

if TYPE_CHECKING:
    from mm1.data.prepare.sources.roots import RawRoot

WORLD_SCHEME = "world:"


class Kind(StrEnum):
    """What an address can be; the value is its form, for messages and ``--help``."""

    PATH = "path"
    BUCKET = "s3://bucket/prefix"
    WORLD = "world:<seed>"
    MANIFEST = "<store>/manifests/<sha256>.json"


def _source(*reads: Kind, decisive: bool = True) -> Any:
    return Field(json_schema_extra={"role": SOURCE, "reads": list(reads), "decisive": decisive})


Source = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD)]
"""Raw files, of which the toy world has some."""
RealSource = Annotated[str, _source(Kind.PATH, Kind.BUCKET)]
"""Raw files of a kind that the toy world lacks."""
SourcePlace = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD, decisive=False)]
RealSourcePlace = Annotated[str, _source(Kind.PATH, Kind.BUCKET, decisive=False)]
"""Where raw files lie that another input names by content: no part of the cache key."""
Benchmarks = Annotated[str, _source(Kind.PATH, Kind.WORLD)]
"""A folder of benchmark files."""
LocalFiles = Annotated[str, _source(Kind.PATH)]
"""A file or a folder, such as a model's in Hugging Face layout."""
TokenizerAddress = Annotated[str, _source(Kind.PATH, Kind.MANIFEST)]
"""A tokenizer's folder, or a manifest that holds one."""


def reads_of(info: FieldInfo) -> list[Kind]:
    """The kinds of addresses that an input reads; none for an input that takes no address."""
    if role_of(info) == MANIFEST:
        return [Kind.MANIFEST]
    extra: Any = info.json_schema_extra
    return [Kind(kind) for kind in extra["reads"]] if role_of(info) == SOURCE else []


def kind_of(address: str) -> Kind | None:
    """The kind of an address; None for one of a scheme that nothing here reads."""
    if MANIFEST_NAME.match(address):
        return Kind.MANIFEST
    if address.startswith(WORLD_SCHEME):
        return Kind.WORLD
    scheme = scheme_of(address)
    return Kind.BUCKET if scheme == "s3" else Kind.PATH if scheme in ("", "file") else None


def check_address(name: str, info: FieldInfo, address: str) -> None:
    """Refuse an address that an input cannot read, whatever lies there.

    Raises:
        ConfigurationError: it is of another kind, not well formed, or empty where one is needed.
    """
    kinds = reads_of(info)
    if not kinds or address == info.default:
        return
    kind = kind_of(address)
    try:
        if not address or kind not in kinds:
            forms: list[str] = [*kinds]
            if isinstance(info.default, str) and info.default and kind_of(info.default) is Kind.PATH:
                forms.append(repr(info.default))  # a word of its own, such as 'train'
            raise ConfigurationError(f"expected {' or '.join(forms)}, got {quoted(address)}")
        if kind is Kind.WORLD:
            _seed_of(address)
        elif kind is Kind.BUCKET:
            split_bucket(address)
        elif kind is Kind.MANIFEST:
            check_store(MANIFEST_NAME.sub(r"\g<store>", address))
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def path_in(info: FieldInfo, address: str) -> str:
    """The path of this machine that an input's address leads to, of a manifest that of its store; empty for other addresses."""
    if not address or address == info.default or not reads_of(info):
        return ""
    kind, match = kind_of(address), MANIFEST_NAME.match(address)
    path = match["store"] if match else address
    return "" if kind is Kind.WORLD or path.startswith(BUCKET_SCHEME) else path.removeprefix(FILE_SCHEME)


def existing(name: str, address: str) -> Path:
    """The local file or folder of an address.

    Args:
        name: of the input, for the message.
        address: a path.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        path = local_path(address)
        path.stat()
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        reason = "no such file or folder" if is_missing else str(error.strerror).lower()
        raise ConfigurationError(f"{name}: {reason}: {quoted(address)}") from None
    return path


def _seed_of(address: str) -> int:
    try:
        return parse_integer(address.removeprefix(WORLD_SCHEME))
    except ValueError:
        raise ConfigurationError(f"expected world:<seed>, for example world:0, got {quoted(address)}") from None


def raw_root(address: str, part: str, work: Path) -> RawRoot:
    """The raw files of an address: of this machine, of a bucket, or of the toy world.

    Args:
        address: a path, ``s3://bucket/prefix``, or ``world:<seed>``.
        part: what is wanted of the toy world.
        work: scratch folder.

    Raises:
        ConfigurationError: there is nothing.
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
        return existing(part, address)
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part

    return write_part(part, work / f"world-{part}", WorldConfig(seed=_seed_of(address)))


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
        address = values[name]
        if not address or address == inputs.model_fields[name].default:  # such as tokenizer=train
            continue
        if kind_of(address) is Kind.BUCKET:
            result[name] = _bucket_fingerprint(address)
        elif kind_of(address) is Kind.PATH:
            result[name] = folder_fingerprint(existing(name, address))
    return result


def _bucket_fingerprint(address: str) -> str:
    """Names, sizes and tags of all objects; contents are not read."""
    from mm1.config.resolve import canonical_json
    from mm1.data.prepare.sources.roots import BucketRoot

    files = BucketRoot(address, Path(tempfile.gettempdir())).list()
    return digest_of(canonical_json([file.model_dump() for file in files]).encode())
