"""Interleaved documents in MMC4's format: JSON lines with sentences and the images matched to them.

A row has ``text_list`` (sentences) and ``image_info`` (``image_name``, ``raw_url``, ``matched_text_index``, ``matched_sim``);
``similarity_matrix`` is ignored. An image is placed before its matched sentence, so that the model sees it before it
predicts the sentence (OpenFlamingo does this half of the time; MM1 does not mention MMC4). Sentences between two images
form one text. The images are bytes in the row (``image_base64``), files named ``image_name`` next to the file or in an
``images`` folder next to it, or remote. The file may be a zip archive, as published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mm1.data.prepare.files.fields import listed
from mm1.data.prepare.files.images import address_of, decode_base64, read_image
from mm1.data.prepare.files.jsonl import json_rows, zip_left_out
from mm1.data.prepare.files.raw import REMOTE, Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.values import as_text, type_of
from mm1.data.prepare.locations.roots import LeftOut
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
        raise OddRow("no_sentences", "expected a list of text in 'text_list', got other types in it")
    lost: list[str] = []
    infos = _list(row, "image_info", "no_image_list")
    placed = sorted(_placed(file, infos, len(texts), lost), key=lambda image: image.sentence)
    has_images = any(image.data for image in placed)
    parts: list[Part] = []
    images: list[bytes] = []
    start = 0
    for image in placed:
        if image.sentence > start:
            parts.append(TextPart(clean(" ".join(texts[start : image.sentence]))))
            start = image.sentence
        parts.append(ImagePart(len(images)))
        images.append(image.data or _remote(file, image.url, has_images))
    if start < len(texts):
        parts.append(TextPart(clean(" ".join(texts[start:]))))
    meta = {"origin": origin, "addresses": [image.address for image in placed]}
    yield Sample(key="", source=file.source, parts=parts, images=images, meta=meta)
    yield from (LeftOut(origin, 0, reason) for reason in lost)


def _list(row: dict[str, Any], name: str, odd: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise OddRow(odd, f"expected a list in {name!r}, got {type_of(value)}; the row's fields are {listed(row)}")
    return value


class _Image(NamedTuple):
    sentence: int
    """Index of its sentence."""
    data: bytes
    """From the row, or from a file next to it; empty if there is none."""
    url: str
    address: str


def _placed(file: RawInput, infos: list[Any], num_sentences: int, lost: list[str]) -> Iterator[_Image]:
    """Yield the images that have a sentence."""
    for info in infos:
        index = info.get("matched_text_index") if isinstance(info, dict) else None
        if isinstance(index, float) and index.is_integer():  # pandas
            index = int(index)
        if type(index) is not int or not 0 <= index < num_sentences:
            lost.append("image without a matching sentence")
            continue
        encoded, name, url = (as_text(info.get(field)) or "" for field in ("image_base64", "image_name", "raw_url"))
        try:
            data = decode_base64(encoded) if encoded else read_image(file, name)[0]
        except OddRow as odd:
            if odd.name != "image_not_base64":
                raise
            lost.append("image that is not base64")
            continue
        yield _Image(index, data, url, address_of(url or name))


def _remote(file: RawInput, url: str, has_images: bool) -> bytes:
    """Read an image from its address, if that is allowed.

    In a document of which other images exist, it is one that could not be downloaded. Without any, the row is odd, so that the
    user learns how to get the images.
    """
    is_refused = file.fetch is None and REMOTE.match(url) is not None
    return b"" if is_refused and has_images else read_image(file, url)[0]
