r"""The canonical sample: what every source is turned into and what every shard holds.

A sample is a sequence of text parts and image places, with the encoded images beside it::

    caption pair        [image 0] "a red circle ."
    web document        "this is" [image 0] "and this" [image 1] "..."
    conversation        "<|im_start|>user\n" [image 0] "what is it ?<|im_end|>\n" ... (no loss on what the user says)

In a shard (an ordinary webdataset tar) it is the members ``<key>.json`` and ``<key>.<i>.<format>``; the JSON is
``{"meta": {...}, "parts": [{"image": 0}, {"loss": true, "text": "..."}], "source": "captions"}`` with sorted keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mm1.errors import DataError

IMAGE_PLACE = -1
"""What stands for an image among the lengths of a sample's parts, in tokens."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A stretch of text; it is tokenised on its own."""

    text: str
    loss: bool = True
    """Whether the model learns to predict it (False for what a user says)."""


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The place of an image."""

    image: int
    """Index into the sample's images."""


Part = TextPart | ImagePart


@dataclass(slots=True)
class Sample:
    """One document, caption pair or conversation."""

    key: str
    """Unique within its source; letters, digits and dashes, no dot (webdataset splits names at the first one)."""
    source: str
    """captions, interleaved, text or instructions."""
    parts: list[Part]
    images: list[bytes] = field(default_factory=list)
    """Encoded images (JPEG, PNG, WebP) in order of appearance."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Plain data about where it came from; ``origin`` names the raw file and row."""

    @property
    def origin(self) -> str:
        """Raw file and row, for messages."""
        return str(self.meta.get("origin", self.key))

    def texts(self) -> Iterator[str]:
        """The texts of all text parts, in order."""
        return (part.text for part in self.parts if isinstance(part, TextPart))

    def to_json(self) -> bytes:
        """The ``<key>.json`` member: compact, sorted keys, UTF-8."""
        tree = {"meta": self.meta, "parts": [_part_to_tree(part) for part in self.parts], "source": self.source}
        return json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, key: str, data: bytes, images: Sequence[bytes] | None = None) -> Sample:
        """Read a ``<key>.json`` member.

        Args:
            key: the sample's key.
            data: content of the member.
            images: its images, by index; None when only the text is wanted.

        Raises:
            DataError: not JSON of this form, or a part names an image that is not there.
        """
        try:
            tree = json.loads(data)
            parts = [_part_from_tree(part) for part in tree["parts"]]
            sample = cls(key=key, source=tree["source"], parts=parts, images=list(images or ()), meta=tree["meta"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"sample {key}: its JSON is damaged ({type(error).__name__}: {error})") from None
        places = [part.image for part in parts if isinstance(part, ImagePart)]
        if images is not None and any(not 0 <= place < len(images) for place in places):
            raise DataError(f"sample {key}: a part names an image that is not there (it has {len(images)})")
        return sample


def _part_to_tree(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        return {"image": part.image}
    return {"loss": part.loss, "text": part.text}


def _part_from_tree(tree: dict[str, Any]) -> Part:
    if "image" in tree:
        return ImagePart(int(tree["image"]))
    return TextPart(str(tree["text"]), bool(tree.get("loss", True)))
