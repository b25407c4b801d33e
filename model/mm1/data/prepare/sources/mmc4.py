"""Interleaved documents in MMC4's format: JSON lines with sentences and the images matched to them.

A row has ``text_list`` (sentences) and ``image_info`` (``image_name``, ``raw_url``, ``matched_text_index``, ``matched_sim``);
``similarity_matrix`` is ignored. An image is placed before its matched sentence, so that the model sees it before it
predicts the sentence (OpenFlamingo does this half of the time; MM1 does not mention MMC4). Sentences between two images
form one text. The images are bytes in the row (``image_base64``), files named ``image_name`` next to the file or in an
``images`` folder next to it, or remote. The file may be a zip archive, as published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mm1.data.prepare.sources.fields import listed
from mm1.data.prepare.sources.images import address_of, decode_base64, read_image
from mm1.data.prepare.sources.jsonl import json_rows, zip_left_out
from mm1.data.prepare.sources.raw import REMOTE, Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.sources.roots import LeftOut
from mm1.data.prepare.sources.values import as_text, type_of
from mm1.data.sample import ImagePart, Part, Sample, TextPart


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a JSON file.

    Raises:
        DataError: the file is damaged or truncated.
    """
    yield from zip_left_out(file)
    yield from read_rows(file, json_rows(file), lambda origin, row: _items(file, origin, row, clean))


def _items(file: RawInput, origin: str, row: dict[str, Any], clean: Clean) -> Iterator[Sample | LeftOut]:
    sentences = _list(row, "text_list", "no_sentences")
    texts = [text for sentence in sentences if (text := as_text(sentence)) is not None]
    if len(texts) < len(sentences):
        raise OddRow("no_sentences", f"expected a list of text in 'text_list', got {type_of(sentences)}")
    before: dict[int, list[dict[str, Any]]] = {}
    lost: list[str] = []
    for info in _list(row, "image_info", "no_image_list"):
        index = info.get("matched_text_index") if isinstance(info, dict) else None
        if isinstance(index, float) and index.is_integer():  # pandas
            index = int(index)
        if type(index) is int and 0 <= index < len(texts):
            before.setdefault(index, []).append(info)
        else:
            lost.append("image without a matching sentence")
    parts: list[Part] = []
    images = _Images(file, [info for index in sorted(before) for info in before[index]])
    waiting: list[str] = []
    for index, text in enumerate(texts):
        for info in before.get(index, []):
            if (number := images.add(info)) is None:
                lost.append("image that is not base64")
                continue
            if waiting:
                parts.append(TextPart(clean(" ".join(waiting))))
                waiting = []
            parts.append(ImagePart(number))
        waiting.append(text)
    if waiting:
        parts.append(TextPart(clean(" ".join(waiting))))
    meta = {"origin": origin, "addresses": images.addresses}
    yield Sample(key="", source=file.source, parts=parts, images=images.data, meta=meta)
    yield from (LeftOut(origin, 0, reason) for reason in lost)


def _list(row: dict[str, Any], name: str, odd: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise OddRow(odd, f"expected a list in {name!r}, got {type_of(value)}; the row's fields are {listed(row)}")
    return value


class _Images:
    """The images of a row, in the order of their sentences."""

    def __init__(self, file: RawInput, infos: list[dict[str, Any]]) -> None:
        self.data: list[bytes] = []
        self.addresses: list[str] = []
        self._file = file
        self._local = [self._read_local(info) for info in infos]
        self._next = iter(self._local)

    def add(self, info: dict[str, Any]) -> int | None:
        """Add the next image and return its number; None if it cannot be decoded."""
        data, url = next(self._next), info.get("raw_url")
        if data is None:
            return None
        # a document of which other images exist has failed downloads; without any, the user is told how to get them
        if not data and isinstance(url, str) and (self._file.fetch or not REMOTE.match(url) or not any(self._local)):
            data = read_image(self._file, url)[0]
        name = url or info.get("image_name") or ""
        self.data.append(data)
        self.addresses.append(address_of(name) if isinstance(name, str) else "")
        return len(self.data) - 1

    def _read_local(self, info: dict[str, Any]) -> bytes | None:
        if encoded := info.get("image_base64"):
            try:
                return decode_base64(encoded) if isinstance(encoded, str) else None
            except OddRow:
                return None
        name = info.get("image_name")
        return read_image(self._file, name)[0] if name else b""
