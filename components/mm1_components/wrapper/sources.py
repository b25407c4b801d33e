"""Addresses of inputs: the kinds that each input reads, and the files behind an address.

``world:<seed>`` is the generated toy world, so every pipeline runs without data of your own. Its files are written in the
formats of real data, and the rest of the code does not distinguish them.
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
    """The kinds of addresses; the value is the form, for messages and ``--help``."""

    PATH = "path"
    BUCKET = "s3://bucket/prefix"
    WORLD = "world:<seed>"
    MANIFEST = "<store>/manifests/<sha256>.json"


def _source(*reads: Kind, decisive: bool = True) -> Any:
    return Field(json_schema_extra={"role": SOURCE, "reads": list(reads), "decisive": decisive})


Source = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD)]
"""Raw files; the toy world provides them, too."""
RealSource = Annotated[str, _source(Kind.PATH, Kind.BUCKET)]
"""Raw files that the toy world does not provide."""
SourceLocation = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD, decisive=False)]
RealSourceLocation = Annotated[str, _source(Kind.PATH, Kind.BUCKET, decisive=False)]
"""Location of raw files whose content is identified by another input; not part of the cache key."""
Benchmarks = Annotated[str, _source(Kind.PATH, Kind.WORLD)]
"""A folder of benchmark files."""
LocalFiles = Annotated[str, _source(Kind.PATH)]
"""A file or a folder, such as a model in Hugging Face format."""
TokenizerAddress = Annotated[str, _source(Kind.PATH, Kind.MANIFEST)]
"""The folder of a tokenizer, or a manifest that contains one."""


def reads_of(info: FieldInfo) -> list[Kind]:
    """Return the kinds of addresses that an input reads; empty if the input is not an address."""
    if role_of(info) == MANIFEST:
        return [Kind.MANIFEST]
    extra: Any = info.json_schema_extra
    return [Kind(kind) for kind in extra["reads"]] if role_of(info) == SOURCE else []


def kind_of(address: str) -> Kind | None:
    """Return the kind of an address; None for an unknown scheme."""
    if MANIFEST_NAME.match(address):
        return Kind.MANIFEST
    if address.startswith(WORLD_SCHEME):
        return Kind.WORLD
    scheme = scheme_of(address)
    return Kind.BUCKET if scheme == "s3" else Kind.PATH if scheme in ("", "file") else None


def check_address(name: str, info: FieldInfo, address: str) -> None:
    """Check that an input can read an address; does not check that it exists.

    Raises:
        ConfigurationError: the address is of another kind, malformed, or empty although required.
    """
    kinds = reads_of(info)
    if not kinds or address == info.default:
        return
    kind = kind_of(address)
    try:
        if not address or kind not in kinds:
            forms: list[str] = [*kinds]
            if isinstance(info.default, str) and info.default and kind_of(info.default) is Kind.PATH:
                forms.append(repr(info.default))  # a keyword such as 'train'
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
    """Return the local path of an input's address (for a manifest, of its store); empty for other addresses."""
    if not address or address == info.default or not reads_of(info):
        return ""
    kind, match = kind_of(address), MANIFEST_NAME.match(address)
    path = match["store"] if match else address
    return "" if kind is Kind.WORLD or path.startswith(BUCKET_SCHEME) else path.removeprefix(FILE_SCHEME)


def existing(name: str, address: str) -> Path:
    """Return the local file or folder of an address.

    Args:
        name: name of the input, for the message.
        address: a path.

    Raises:
        ConfigurationError: it does not exist.
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
    """Return the raw files of an address: on this machine, in a bucket, or of the toy world.

    Args:
        address: a path, ``s3://bucket/prefix``, or ``world:<seed>``.
        part: part of the toy world.
        work: scratch folder.

    Raises:
        ConfigurationError: nothing exists at the address.
    """
    from mm1.data.prepare.sources.roots import BucketRoot, LocalRoot

    if address.startswith(BUCKET_SCHEME):
        return BucketRoot(address, work / f"raw-{part}")
    return LocalRoot(raw_files(address, part, work))


def raw_files(address: str, part: str, work: Path) -> Path:
    """Return the local file or folder of an address.

    Args:
        address: a path, or ``world:<seed>``.
        part: part of the toy world: captions, interleaved, text, instructions or benchmarks.
        work: scratch folder that the toy world is written to.

    Raises:
        ConfigurationError: the path does not exist, or the seed is not a number.
    """
    if not address.startswith(WORLD_SCHEME):
        return existing(part, address)
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part

    return write_part(part, work / f"world-{part}", WorldConfig(seed=_seed_of(address)))


def fingerprints(inputs: type[BaseModel], values: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprints of inputs that name raw files, for the cache key: input -> fingerprint.

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
    """Return a digest of the names, sizes and ETags of all objects; contents are not read."""
    from mm1.config.resolve import canonical_json
    from mm1.data.prepare.sources.roots import BucketRoot

    files = BucketRoot(address, Path(tempfile.gettempdir())).list()
    return digest_of(canonical_json([file.model_dump() for file in files]).encode())
