"""Addresses of inputs: the kinds that each input reads, and the files behind an address.

``world:<seed>`` is the generated toy world (:mod:`mm1.world.address`), so every pipeline runs without data of your own. Its
files are written in the formats of real data, and the rest of the code does not distinguish them.
"""

from __future__ import annotations

import errno
import stat
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from mm1.config.values import FILE_SCHEME, local_path, quoted
from mm1.data.prepare.locations.addresses import Address, parse_addresses
from mm1.data.prepare.locations.names import is_key
from mm1.errors import ConfigurationError
from mm1.lineage.serving import check_target
from mm1.manifests import MANIFEST_NAME
from mm1.store.address import BUCKET_SCHEME, check_store, scheme_of, split_bucket
from mm1.store.base import digest_of
from mm1.world.address import FORM as WORLD_FORM
from mm1.world.address import SCHEME as WORLD_SCHEME
from mm1.world.address import parse_world, parts_for
from mm1_components.wrapper.arguments import MANIFEST, SOURCE, role_of, source_fields
from mm1_components.wrapper.cache import folder_fingerprint

if TYPE_CHECKING:
    from mm1.data.prepare.locations.roots import RawRoot

SERVED_SCHEME = "serving:"
"""Prefix of a target of :mod:`mm1.lineage.serving`."""
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class Kind(StrEnum):
    """The kinds of addresses; the value is the form, for messages and ``--help``."""

    PATH = "path"
    BUCKET = "s3://bucket/prefix"
    WORLD = WORLD_FORM
    MANIFEST = "<store>/manifests/<sha256>.json"
    SERVED = "serving:<target>"


def _source(*reads: Kind, decisive: bool = True, several: bool = False) -> Any:
    return Field(json_schema_extra={"role": SOURCE, "reads": list(reads), "decisive": decisive, "several": several})


Source = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD, several=True)]
"""Raw files at one or several addresses (:mod:`mm1.data.prepare.locations.addresses`); the toy world provides them, too."""
SourceLocation = Annotated[str, _source(Kind.PATH, Kind.BUCKET, Kind.WORLD, decisive=False, several=True)]
"""Location of raw files whose content is identified by another input; not part of the cache key."""
Benchmarks = Annotated[str, _source(Kind.PATH, Kind.WORLD)]
"""A folder of benchmark files."""
LocalFiles = Annotated[str, _source(Kind.PATH)]
"""A file or a folder, such as a model in Hugging Face format."""
TokenizerAddress = Annotated[str, _source(Kind.PATH, Kind.MANIFEST, Kind.SERVED)]
"""The folder of a tokenizer, or a manifest or served model that contains one."""


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
    if address.startswith(SERVED_SCHEME):
        return Kind.SERVED
    scheme = scheme_of(address)
    return Kind.BUCKET if scheme == "s3" else Kind.PATH if scheme in ("", "file") else None


def addresses_in(info: FieldInfo, text: str) -> list[Address]:
    """Return the addresses in an input: one, or those of a list if the input reads raw files.

    Raises:
        ConfigurationError: the list is malformed.
    """
    extra: Any = info.json_schema_extra
    if text == info.default or role_of(info) != SOURCE or not extra["several"] or MANIFEST_NAME.match(text):
        return [Address(text, text)]
    return parse_addresses(text)


def check_address(name: str, info: FieldInfo, text: str) -> None:
    """Check that an input can read its addresses; does not check that they exist.

    Raises:
        ConfigurationError: an address is of another kind, malformed, or empty although required.
    """
    if not reads_of(info) or text == info.default:
        return
    try:
        _check_encoding(text)
        addresses = addresses_in(info, text)
        for address in addresses:
            _check_kind(name, info, address.base)
            if len(addresses) > 1 and kind_of(address.base) is Kind.WORLD:
                raise ConfigurationError(
                    f"expected {quoted(address.text)} alone, got it in a list; give the toy world or files"
                )
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _check_encoding(text: str) -> None:
    """Check that a text can be recorded, which one with a path that is not UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"expected UTF-8, got {quoted(text)}; rename it, make a link to it, or give a pattern that matches it"
        ) from None


def _check_kind(name: str, info: FieldInfo, address: str) -> None:
    kind, kinds = kind_of(address), reads_of(info)
    if not address or kind not in kinds:
        forms: list[str] = [*kinds]
        if isinstance(info.default, str) and info.default and kind_of(info.default) is Kind.PATH:
            forms.append(repr(info.default))  # a keyword such as 'train'
        raise ConfigurationError(f"expected {' or '.join(forms)}, got {quoted(address)}")
    if kind is Kind.WORLD:
        parts_for(address, name)
    elif kind is Kind.BUCKET:
        prefix = split_bucket(address)[1]
        if prefix and not is_key(prefix):
            raise ConfigurationError(f"expected a prefix without '//', '.' and '..', got {quoted(address)}")
    elif kind is Kind.SERVED:
        check_target(address.removeprefix(SERVED_SCHEME))
    elif kind is Kind.MANIFEST:
        check_store(MANIFEST_NAME.sub(r"\g<store>", address))


def path_in(info: FieldInfo, address: str) -> str:
    """Return the local path of an input's address (for a manifest, of its store); empty for other addresses."""
    if not address or address == info.default or not reads_of(info):
        return ""
    kind, match = kind_of(address), MANIFEST_NAME.match(address)
    path = match["store"] if match else address
    return "" if kind in (Kind.WORLD, Kind.SERVED) or path.startswith(BUCKET_SCHEME) else path.removeprefix(FILE_SCHEME)


def existing(name: str, address: str) -> Path:
    """Return the local file or folder of an address; it must not be changed.

    Args:
        name: name of the input, for the message.
        address: a path.

    Raises:
        ConfigurationError: it does not exist, or is neither a file nor a folder.
    """
    try:
        path = local_path(address)
        mode = path.stat().st_mode
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: {_reason(error)}: {quoted(address)}{_remedy(address, error)}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigurationError(f"{name}: expected a file or a folder, got a device, pipe or socket: {quoted(address)}")
    return path


def check_exists(name: str, address: Address) -> None:
    """Check that the local files of an address exist; a pattern matches at least one.

    Raises:
        ConfigurationError: there is no such file.
    """
    path = existing(name, address.base)
    if address.names:
        _local_root(name, path, address, None)


def _local_root(name: str, path: Path, address: Address, work: Path | None) -> RawRoot:
    from mm1.data.prepare.locations.roots import LocalRoot

    try:
        return LocalRoot(path, address.names, work)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _reason(error: OSError) -> str:
    return "no such file or folder" if error.errno in _MISSING else str(error.strerror).lower()


def _remedy(address: str, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "; check the owner and mode of it and of the folders above it"
    if error.errno not in _MISSING:
        return ""
    if (path := local_path(address)).is_symlink():
        return f"; it is a link to {quoted(str(path.readlink()))}, which does not exist"
    if any(map(str.isspace, address)) or "," in address:
        return '; write several addresses as a JSON list: ["/data/a", "/data/b"]'
    return "" if path.is_absolute() else f"; relative paths start at {quoted(str(Path.cwd()))}"


def raw_root(text: str, part: str, work: Path) -> RawRoot:
    """Return the raw files of a source: on this machine, in buckets, or of the toy world.

    Args:
        text: one or several addresses (:mod:`mm1.data.prepare.locations.addresses`), or ``world:<seed>``.
        part: name of the input: its part of the toy world, unless the address names others.
        work: scratch folder.

    Raises:
        ConfigurationError: nothing exists at an address, or two addresses hold the same file.
    """
    addresses = parse_addresses(text)
    roots = [_root(address, part, work) for address in addresses]
    if len(roots) == 1:
        return roots[0]
    from mm1.data.prepare.locations.joined import JoinedRoot, labels_of

    return JoinedRoot(dict(zip(labels_of(addresses), roots, strict=True)))


def _root(address: Address, part: str, work: Path) -> RawRoot:
    from mm1.data.prepare.locations.roots import BucketRoot

    folder = work / f"raw-{part}"
    if address.base.startswith(BUCKET_SCHEME):
        try:
            return BucketRoot(address.base, folder, address.names)
        except ConfigurationError as error:
            raise ConfigurationError(f"{part}: {error}") from None
    return _local_root(part, raw_files(address.base, part, work), address, folder)


def raw_files(address: str, part: str, work: Path) -> Path:
    """Return the local file or folder of an address; it must not be changed.

    Args:
        address: a path, or ``world:<seed>``.
        part: name of the input: captions, synthetic, interleaved, text, instructions or benchmarks.
        work: scratch folder that the toy world is written to: its part, or a subfolder of each if the address names several.
            Benchmarks of the toy world are in a folder of this machine, which all evaluations share.

    Raises:
        ConfigurationError: the path does not exist, or the address of the toy world is malformed.
    """
    if not address.startswith(WORLD_SCHEME):
        return existing(part, address)
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part
    from mm1_components.wrapper.world_copies import world_copy

    world, parts, folder = parse_world(address), parts_for(address, part), work / f"world-{part}"
    config = WorldConfig(seed=world.seed, image_size_px=world.image_size_px)
    if parts == ("benchmarks",):
        return world_copy("benchmarks", config)
    for name in parts:
        write_part(name, folder / name if len(parts) > 1 else folder, config)
    return folder


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
        text, info = values[name], inputs.model_fields[name]
        if not text or text == info.default:  # such as tokenizer=train
            continue
        addresses = addresses_in(info, text)
        kind = kind_of(addresses[0].base)
        if len(addresses) > 1 or addresses[0].names or kind is Kind.BUCKET:
            result[name] = _files_fingerprint(raw_root(text, name, Path(tempfile.gettempdir())))
        elif kind is Kind.PATH:
            result[name] = folder_fingerprint(existing(name, addresses[0].base))
    return result


def _files_fingerprint(root: RawRoot) -> str:
    """Return a digest of the names, sizes and versions of all files, and of what is left out; contents are not read."""
    from mm1.config.resolve import canonical_json

    files = [file.model_dump() for file in root.list()]
    return digest_of(canonical_json([files, root.left_out()]).encode())
