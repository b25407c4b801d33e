"""Caption pairs written by img2dataset: webdataset tars, parquet, or files in folders.

Tars contain ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``. Parquet has one row per pair, with the image's bytes in a column
named after its format. Folders contain the same three files. The caption is the ``.txt`` (or ``caption`` in the ``.json``).
A pair without an image (its download failed) has empty bytes, so that the filters count it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from mm1.data.prepare.sources.parquet import columns_of, image_bytes, rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.errors import DataError

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "img")
KEPT_FIELDS = ("url", "caption_kind", "clip_similarity_vitl14", "punsafe", "pwatermark")
"""JSON fields copied to the sample's metadata."""


def read_tar(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a tar.

    Raises:
        DataError: not a tar, a truncated one, or one with member names that point outside the archive.
    """
    groups = groupby(_members(file.path, file.name), key=lambda member: member[0])
    pairs = ((key, {suffix: data for _, suffix, data in members}) for key, members in groups)
    return read_rows(file, pairs, lambda origin, files: _sample(file, origin, files, clean))


def read_parquet(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a parquet file.

    Raises:
        DataError: not parquet, or no column of images or captions.
    """
    columns = columns_of(file)
    image = next((name for name in (*IMAGE_SUFFIXES, "image", "image_bytes") if name in columns), None)
    if image is None:
        names = ", ".join(IMAGE_SUFFIXES[:4])
        raise DataError(f"{file.name}: no column with images ({names} or image); its columns are {', '.join(columns)}")

    def make(origin: str, row: dict[str, Any]) -> Sample:
        fields = {name: row.get(name) for name in KEPT_FIELDS} | {"caption": row["caption"]}
        content = {"json": json.dumps(fields).encode(), "img": image_bytes(row[image])}
        return _sample(file, origin, content, clean)

    return read_rows(file, rows(file, (image, "caption"), KEPT_FIELDS), make)


def read_files(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read the pair of a caption file; its image and JSON are next to it."""
    stem = PurePosixPath(file.name).stem
    files = {"txt": file.path.read_bytes()}
    if data := file.read_adjacent(f"{stem}.json"):
        files["json"] = data
    image = next((data for suffix in IMAGE_SUFFIXES if (data := file.read_adjacent(f"{stem}.{suffix}"))), b"")
    yield _sample(file, file.name, files | {"img": image}, clean)


def _members(path: Path, label: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield key, suffix and content of each file in a tar; names are split at the first dot, as in webdataset."""
    last = "its beginning"
    try:
        _check_end(path)
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if info.isfile():
                    if info.name.startswith("/") or ".." in PurePosixPath(info.name).parts:
                        raise DataError(f"{label}: the member {info.name[:100]!r} points outside the archive; recreate the tar")
                    folder, _, name = info.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    last = info.name
                    content = tar.extractfile(info)
                    yield f"{folder}/{stem}" if folder else stem, suffix.lower(), content.read() if content else b""
                tar.members.clear()  # type: ignore[attr-defined]  # free the members already read
    except tarfile.TarError as error:
        raise DataError(f"{label}: the tar is damaged or truncated after {last} ({error}); download it again") from None


def _check_end(file: Path) -> None:
    # tarfile reads a tar that was cut between two members without error; only the end mark is missing.
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(max(0, size - tarfile.BLOCKSIZE))
        if size < tarfile.BLOCKSIZE or any(stream.read()):
            raise tarfile.ReadError("no end mark")


def _sample(file: RawInput, origin: str, files: dict[str, bytes], clean: Clean) -> Sample:
    fields = _fields(files.get("json", b"{}"))
    image = next((files[suffix] for suffix in IMAGE_SUFFIXES if suffix in files), b"")
    if "txt" in files:
        try:
            caption = files["txt"].decode()
        except UnicodeDecodeError as error:
            raise OddRow("caption_not_utf8", f"the .txt is not UTF-8 ({error.reason} at byte {error.start})") from None
    else:
        caption = str(fields.get("caption") or "")
    meta: dict[str, Any] = {name: fields[name] for name in KEPT_FIELDS if fields.get(name) is not None}
    meta["origin"] = origin
    if "url" in meta:
        meta["addresses"] = [str(meta.pop("url"))]
    return Sample(key="", source=file.source, parts=[ImagePart(0), TextPart(clean(caption))], images=[image], meta=meta)


def _fields(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise OddRow("not_json", f"cannot read the .json ({error})") from None
    return fields if isinstance(fields, dict) else {}
