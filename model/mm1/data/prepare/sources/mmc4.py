"""Interleaved documents in MMC4's format: jsonl with sentences and the images matched to them.

A row has ``text_list`` (sentences) and ``image_info`` (``image_name``, ``raw_url``, ``matched_text_index``, ``matched_sim``);
``similarity_matrix`` is ignored. An image is placed before its matched sentence, so that the model sees it before it
predicts the sentence (OpenFlamingo does this half of the time; MM1 does not mention MMC4). Sentences between two images
form one text. The images are bytes in the row (``image_base64``), files named ``image_name`` next to the file or in an
``images`` folder next to it, or remote.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from mm1.data.prepare.sources.jsonl import json_rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.sample import ImagePart, Part, Sample, TextPart

FOLDERS = ("", "images")


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a jsonl file.

    Raises:
        DataError: a line is not a JSON object in this format, the file is truncated, or an image is remote.
    """
    return read_rows(file, json_rows(file), lambda origin, row: _sample(file, origin, row, clean))


def _sample(file: RawInput, origin: str, row: dict[str, Any], clean: Clean) -> Sample:
    texts, infos = row.get("text_list"), row.get("image_info")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OddRow("no_sentences", f"expected a list of sentences in 'text_list'; the row's fields are {', '.join(row)}")
    if not isinstance(infos, list) or not all(isinstance(info, dict) for info in infos):
        raise OddRow("no_image_list", f"expected a list of images in 'image_info'; the row's fields are {', '.join(row)}")
    before: dict[int, list[dict[str, Any]]] = {}
    for info in infos:
        index = info.get("matched_text_index")
        if not isinstance(index, int) or not 0 <= index < len(texts):
            raise OddRow("image_index", f"expected a matched_text_index below {len(texts)}, got {index!r}")
        before.setdefault(index, []).append(info)
    parts: list[Part] = []
    images: list[bytes] = []
    addresses: list[str] = []
    sentences: list[str] = []
    for index, sentence in enumerate(texts):
        if index in before and sentences:
            parts.append(TextPart(clean(" ".join(sentences))))
            sentences = []
        for info in before.get(index, []):
            parts.append(ImagePart(len(images)))
            images.append(_image(file, info))
            addresses.append(str(info.get("raw_url") or info.get("image_name") or ""))
        sentences.append(sentence)
    if sentences:
        parts.append(TextPart(clean(" ".join(sentences))))
    return Sample(key="", source=file.source, parts=parts, images=images, meta={"origin": origin, "addresses": addresses})


def _image(file: RawInput, info: dict[str, Any]) -> bytes:
    if encoded := info.get("image_base64"):
        try:
            return base64.b64decode(str(encoded), validate=True)
        except binascii.Error as error:
            raise OddRow("image_base64", f"image_base64 is not base64 ({error})") from None
    name = info.get("image_name")
    if name and (data := file.read_adjacent(str(name), FOLDERS)):
        return data
    url = info.get("raw_url")
    return file.read_adjacent(str(url)) if url else b""
