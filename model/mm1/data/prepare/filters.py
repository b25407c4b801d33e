"""Filters that judge each sample (and each image of a document) on its own. Every drop is counted under its filter's name.

    sample -> images, one by one -> texts -> the whole (images per document, text after an image) -> sample | None

A caption pair or a conversation with a bad image is dropped; an interleaved document only loses the image. Filters that need
other samples (duplicates, images that occur everywhere) are applied later, over the whole source
(:mod:`mm1.data.prepare.duplicates`).
Thresholds come from a named preset (:data:`mm1.data.config.PRESETS`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import blake2b
from typing import NamedTuple

from mm1.data.config import FilterPreset
from mm1.data.images import decode_small, difference_hash, open_image
from mm1.data.prepare.words import character_repetition, letter_share, stop_word_share, word_repetition
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.errors import DataError

MAX_EXAMPLES = 3
"""Number of examples kept per filter."""


class Kept(NamedTuple):
    """A sample that passed, with the image properties computed on the way."""

    sample: Sample
    digests: list[bytes]
    """16 bytes for each image."""
    sizes: list[tuple[int, int]]
    """Width and height of each image, in pixels."""
    hashes: list[int]
    """Difference hash of each image, if near duplicates are to be found."""


class _ImageProperties(NamedTuple):
    """Properties of an image that passed."""

    size: tuple[int, int]
    """Width and height as people see it, in pixels."""
    hash: int


class Filters:
    """The filters of one source. Samples are judged independently of each other.

    Args:
        preset: thresholds.

    Attributes:
        dropped: filter -> number of dropped samples (or images of documents).
        examples: filter -> origins of the first dropped samples, with the reason.
    """

    def __init__(self, preset: FilterPreset) -> None:
        self.preset = preset
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def apply(self, sample: Sample) -> Kept | None:
        """Apply the filters to a sample; None if it is dropped. Documents may lose some of their images and texts."""
        digests = [blake2b(image, digest_size=16).digest() for image in sample.images]
        verdicts = [self._check_image(sample, index, digests) for index in range(len(sample.images))]
        faults = [verdict if isinstance(verdict, str) else "" for verdict in verdicts]
        kept = [index for index, fault in enumerate(faults) if not fault]
        seen = [verdict for verdict in verdicts if isinstance(verdict, _ImageProperties)]
        if sample.source != "interleaved":
            fault = next(filter(None, faults), "") or self._text_fault(sample)
        else:
            for fault in filter(None, faults):
                self._count(sample, fault)
            sample = with_images(sample, kept)
            sample.parts = [part for part in sample.parts if not self._bad_node(sample, part)]
            fault = document_fault(sample, self.preset)
        if fault:
            self._count(sample, fault)
            return None
        sizes, hashes = [image.size for image in seen], [image.hash for image in seen]
        return Kept(sample, [digests[index] for index in kept], sizes, hashes)

    def _count(self, sample: Sample, fault: str) -> None:
        name, _, reason = fault.partition(": ")
        self.dropped[name] += 1
        if len(self.examples[name]) < MAX_EXAMPLES:
            self.examples[name].append(f"{sample.origin}: {reason}" if reason else sample.origin)

    # -- images ---------------------------------------------------------------------------------------------------

    def _check_image(self, sample: Sample, index: int, digests: list[bytes]) -> str | _ImageProperties:
        """Return the image's fault, or its properties if it passes."""
        rules, data = self.preset.image, sample.images[index]
        if not data:
            return "missing_image"
        address = _address(sample, index)
        if word := next((word for word in rules.address_words if word in address.lower()), ""):
            return f"image_address: {word} in {address[:80]}"
        if rules.once_per_document and digests[index] in digests[:index]:
            return "image_twice_in_document"
        return self._check_pixels(data)

    def _check_pixels(self, data: bytes) -> str | _ImageProperties:
        rules = self.preset.image
        try:
            image = open_image(data, max_pixels=None)
        except DataError as error:
            return f"unreadable_image: {error}"
        width, height = image.size
        short, long = sorted((width, height))
        if image.form not in rules.formats:
            return f"image_format: {image.form}"
        if short < rules.min_side_px:
            return f"image_too_small: {width} x {height}"
        if long > rules.max_side_px or short * long > rules.max_pixels:
            return f"image_too_large: {width} x {height}"
        if long > rules.max_aspect_ratio * short:
            return f"image_aspect_ratio: {width} x {height}"
        try:
            small = decode_small(image)
        except DataError as error:
            return f"unreadable_image: {error}"
        return _ImageProperties(image.size, difference_hash(small) if self.preset.near_duplicates else 0)

    # -- texts ----------------------------------------------------------------------------------------------------

    def _text_fault(self, sample: Sample) -> str:
        rules = self.preset.text
        if sample.source == "instructions":
            answers = any(isinstance(part, TextPart) and part.loss for part in sample.parts)
            return "" if answers else "no_answer"
        if sample.source == "text":
            return text_fault(sample, self.preset)
        text = " ".join(sample.texts())
        num_words = len(text.split())
        if not rules.min_caption_words <= num_words <= rules.max_caption_words:
            return f"caption_length: {num_words} words"
        letters = letter_share(text) if rules.min_caption_letters else 1.0
        return f"caption_letters: {letters:.2f} of its characters" if letters < rules.min_caption_letters else ""

    def _bad_node(self, sample: Sample, part: Part) -> bool:
        if isinstance(part, ImagePart):
            return False
        rules, words = self.preset.text, part.text.split()
        fault = ""
        if not rules.min_node_words <= len(words) <= rules.max_node_words:
            fault = f"node_length: {len(words)} words"
        elif rules.min_node_stop_words and (share := stop_word_share(words)) < rules.min_node_stop_words:
            fault = f"node_stop_words: {share:.2f}"
        elif rules.max_node_character_repetition < 1 and (
            (share := character_repetition(part.text)) > rules.max_node_character_repetition
        ):
            fault = f"node_character_repetition: {share:.2f}"
        elif rules.max_node_word_repetition < 1 and (share := word_repetition(words)) > rules.max_node_word_repetition:
            fault = f"node_word_repetition: {share:.2f}"
        if fault:
            self._count(sample, fault)
        return bool(fault)


def document_fault(document: Sample, preset: FilterPreset) -> str:
    """Return the fault of an interleaved document as a whole; empty if it passes."""
    if not document.images:
        return "no_images"
    if len(document.images) > preset.max_document_images:
        return f"too_many_images: {len(document.images)}"
    first_image = next(index for index, part in enumerate(document.parts) if isinstance(part, ImagePart))
    if not any(isinstance(part, TextPart) for part in document.parts[first_image:]):
        return "no_text_after_image"
    return text_fault(document, preset)


def text_fault(document: Sample, preset: FilterPreset) -> str:
    """Return the fault of a document's text, all nodes together; empty if it passes."""
    rules, text = preset.text, "\n".join(document.texts())
    words = text.split()
    if not rules.min_document_words <= len(words) <= rules.max_document_words:
        return f"document_length: {len(words)} words"
    if rules.min_document_stop_words and (share := stop_word_share(words)) < rules.min_document_stop_words:
        return f"document_stop_words: {share:.2f}"
    if rules.max_document_character_repetition < 1 and (
        (share := character_repetition(text)) > rules.max_document_character_repetition
    ):
        return f"document_character_repetition: {share:.2f}"
    if rules.max_document_word_repetition < 1 and (share := word_repetition(words)) > rules.max_document_word_repetition:
        return f"document_word_repetition: {share:.2f}"
    return ""


def with_images(sample: Sample, kept: list[int]) -> Sample:
    """Copy a sample with only some of its images."""
    if len(kept) == len(sample.images):
        return sample
    number = {index: position for position, index in enumerate(kept)}
    parts: list[Part] = [
        ImagePart(number[part.image]) if isinstance(part, ImagePart) else part
        for part in sample.parts
        if isinstance(part, TextPart) or part.image in number
    ]
    meta = dict(sample.meta)
    if "addresses" in meta:
        meta["addresses"] = [meta["addresses"][index] for index in kept]
    return Sample(key=sample.key, source=sample.source, parts=parts, images=[sample.images[index] for index in kept], meta=meta)


def _address(sample: Sample, index: int) -> str:
    addresses = sample.meta.get("addresses", [])
    return str(addresses[index]) if index < len(addresses) else ""
