"""Caption pairs as img2dataset writes them: webdataset tars with ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``.

The caption is the ``.txt`` (or ``caption`` in the ``.json``). A pair without an image (it could not be fetched) comes with
empty bytes, for the filters to count.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.sources.raw import Clean, find_files
from mm1.errors import DataError

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "img")
KEPT_FIELDS = ("url", "caption_kind", "clip_similarity_vitl14", "punsafe", "pwatermark")
"""Fields of the JSON that go along."""


def read(path: Path, clean: Clean) -> Iterator[Sample]:
    """Read a tar, or all tars of a folder.

    Raises:
        DataError: not a tar, or a truncated one.
    """
    for file in find_files(path, (".tar",), "webdataset tar"):
        for key, members in groupby(_members(file), key=lambda member: member[0]):
            yield _sample(f"{file.name}:{key}", {suffix: data for _, suffix, data in members}, clean)


def _members(file: Path) -> Iterator[tuple[str, str, bytes]]:
    """Key, suffix and content of each file in a tar, as webdataset splits names: at the first dot."""
    last = "its beginning"
    try:
        _check_end(file)
        with tarfile.open(file, "r:") as tar:
            for info in tar:
                if info.isfile():
                    folder, _, name = info.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    last = info.name
                    content = tar.extractfile(info)
                    yield f"{folder}/{stem}" if folder else stem, suffix.lower(), content.read() if content else b""
                tar.members.clear()  # type: ignore[attr-defined]  # else it remembers every member it has passed
    except tarfile.TarError as error:
        raise DataError(f"{file}: not a whole tar, damaged or truncated after {last} ({error}); fetch it again") from None


def _check_end(file: Path) -> None:
    # A tar that was cut between two members reads without complaint; only its end mark is missing.
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(max(0, size - tarfile.BLOCKSIZE))
        if size < tarfile.BLOCKSIZE or any(stream.read()):
            raise tarfile.ReadError("no end mark")


def _sample(origin: str, files: dict[str, bytes], clean: Clean) -> Sample:
    fields = _fields(origin, files.get("json", b"{}"))
    image = next((files[suffix] for suffix in IMAGE_SUFFIXES if suffix in files), b"")
    if "txt" in files:
        try:
            caption = files["txt"].decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{origin}: its .txt is not UTF-8 ({error.reason} at byte {error.start})") from None
    else:
        caption = str(fields.get("caption") or "")
    meta: dict[str, Any] = {name: fields[name] for name in KEPT_FIELDS if fields.get(name) is not None}
    meta["origin"] = origin
    if "url" in meta:
        meta["addresses"] = [str(meta.pop("url"))]
    return Sample(key="", source="captions", parts=[ImagePart(0), TextPart(clean(caption))], images=[image], meta=meta)


def _fields(origin: str, data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise DataError(f"{origin}: its .json cannot be read ({error})") from None
    return fields if isinstance(fields, dict) else {}
