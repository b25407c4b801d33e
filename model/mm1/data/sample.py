r"""The canonical sample: the output of every source and the content of every shard.

A sample is a sequence of text parts and image placeholders, plus the encoded images::

    caption pair        [image 0] "a red circle ."
    web document        "this is" [image 0] "and this" [image 1] "..."
    conversation        "<|im_start|>user\n" [image 0] "what is it ?<|im_end|>\n" ... (no loss on the user's text)

In a shard (a standard webdataset tar), its members are ``<key>.json`` and ``<key>.<i>.<format>``; the JSON is
``{"meta": {...}, "parts": [{"image": 0}, {"loss": true, "text": "..."}], "source": "captions"}`` with sorted keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mm1.errors import DataError

IMAGE_PLACE = -1
"""Marks an image among the token counts of a sample's parts."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text, tokenised separately."""

    text: str
    loss: bool = True
    """Whether to train on it (False for the user's text)."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A placeholder for an image."""

    image: int
    """Index into the sample's images."""


Part = TextPart | ImagePart


@dataclass(slots=True)
class Sample:
    """One document, caption pair or conversation."""

    key: str
    """Unique within its source; letters, digits and dashes, but no dot (webdataset splits names at the first dot)."""
    source: str
    """captions, interleaved, text or instructions."""
    parts: list[Part]
    images: list[bytes] = field(default_factory=list)
    """Encoded images (JPEG, PNG, WebP) in order of appearance."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Metadata about its origin; ``origin`` names the raw file and row."""

    @property
    def origin(self) -> str:
        """Raw file and row, for messages."""
        return str(self.meta.get("origin", self.key))

    def texts(self) -> Iterator[str]:
        """Yield the texts of all text parts, in order."""
        return (part.text for part in self.parts if isinstance(part, TextPart))

    def to_json(self) -> bytes:
        """Serialize as a ``<key>.json`` member: compact, sorted keys, UTF-8."""
        tree = {"meta": self.meta, "parts": [_part_to_tree(part) for part in self.parts], "source": self.source}
        return json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, key: str, data: bytes, images: Sequence[bytes] | None = None) -> Sample:
        """Parse a ``<key>.json`` member.

        Args:
            key: the sample's key.
            data: content of the member.
            images: its images, in order; None to read only the text.

        Raises:
            DataError: not JSON in this format, or a part refers to a missing image.
        """
        try:
            tree = json.loads(data)
            parts = [_part_from_tree(part) for part in tree["parts"]]
            sample = cls(key=key, source=tree["source"], parts=parts, images=list(images or ()), meta=tree["meta"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"sample {key}: invalid JSON ({type(error).__name__}: {error})") from None
        places = [part.image for part in parts if isinstance(part, ImagePart)]
        if images is not None and any(not 0 <= index < len(images) for index in places):
            raise DataError(f"sample {key}: a part refers to a missing image (the sample has {len(images)})")
        return sample


def _part_to_tree(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"image": part.image}
    return {"loss": part.loss, "text": part.text}


def _part_from_tree(tree: dict[str, Any]) -> Part:
    if "image" in tree:
        return ImagePart(int(tree["image"]))
    return TextPart(str(tree["text"]), bool(tree.get("loss", True)))
