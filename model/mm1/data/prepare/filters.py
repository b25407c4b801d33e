"""Filters that judge each sample (and each image of a document) on its own. Every drop is counted under its filter's name.

    sample -> images, one by one -> texts -> the whole (images per document, text after an image) -> sample | None

A caption pair or a conversation with a bad image is dropped; an interleaved document only loses the image. Filters that need
other samples (duplicates, images that occur everywhere) are applied later, over the whole source
(:mod:`mm1.data.prepare.duplicates`).
Thresholds come from a named preset (:data:`mm1.data.config.PRESETS`), which has its own for each kind of source.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from mm1.data.config import SourcePreset, TextRules
from mm1.data.images import contrast, decode_image, decode_small, foreign_format, open_image, thumbnail
from mm1.data.prepare.addresses import decoration_in
from mm1.data.prepare.languages import language_of, mixed_share, stop_word_share
from mm1.data.prepare.tally import Tally
from mm1.data.prepare.words import Words, character_repetition, letter_share
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.errors import DataError

_KINDS = {"text": "document", "instructions": "conversation"}
"""Source -> kind of its texts in the names of filters; others have captions."""


class Kept(NamedTuple):
    """A sample that passed, with the image properties computed on the way."""

    sample: Sample
    digests: list[bytes]
    """16 bytes for each image."""
    sizes: list[tuple[int, int]]
    """Width and height of each image, in pixels."""
    thumbnails: list[bytes]
    """Thumbnail of each image, if near duplicates are to be found."""
    text: Document
    """All texts together."""


class _ImageProperties(NamedTuple):
    """Properties of an image that passed."""

    size: tuple[int, int]
    """Width and height as people see it, in pixels."""
    thumbnail: bytes


class Filters:
    """The filters of one source. Samples are judged independently of each other.

    Args:
        preset: the source's thresholds.
        tally: counts what they drop, by filter.
    """

    def __init__(self, preset: SourcePreset, tally: Tally | None = None) -> None:
        self.preset = preset
        self.tally = tally or Tally()

    def apply(self, sample: Sample) -> Kept | None:
        """Apply the filters to a sample; None if it is dropped. Documents may lose some of their images and texts."""
        digests = [blake2b(image, digest_size=16).digest() for image in sample.images]
        verdicts = [self._check_image(sample, index, digests) for index in range(len(sample.images))]
        faults = [verdict if isinstance(verdict, str) else "" for verdict in verdicts]
        kept = [index for index, fault in enumerate(faults) if not fault]
        seen = [verdict for verdict in verdicts if isinstance(verdict, _ImageProperties)]
        text = Document(sample)
        if sample.source != "interleaved":
            fault = next(filter(None, faults), "") or self._text_fault(sample, text)
        else:
            for fault in filter(None, faults):
                self.tally.remove(*_counted(sample, fault))
            sample = with_images(sample, kept)
            sample.parts = [part for part in sample.parts if not self._bad_node(sample, part, text)]
            text = Document(sample)
            fault = document_fault(sample, self.preset, text)
        if fault:
            self.tally.drop(*_counted(sample, fault))
            return None
        sizes, thumbnails = [image.size for image in seen], [image.thumbnail for image in seen]
        return Kept(sample, [digests[index] for index in kept], sizes, thumbnails, text)

    # -- images ---------------------------------------------------------------------------------------------------

    def _check_image(self, sample: Sample, index: int, digests: list[bytes]) -> str | _ImageProperties:
        """Return the image's fault, or its properties if it passes."""
        rules, data = self.preset.image, sample.images[index]
        if not data:
            return "missing_image"
        address = _address(sample, index)
        if word := decoration_in(address, rules.address_words):
            return f"image_address: {word} in {address[:80]}"
        if rules.once_per_document and digests[index] in digests[:index]:
            return "image_twice_in_document"
        return self._check_pixels(data)

    def _check_pixels(self, data: bytes) -> str | _ImageProperties:
        rules = self.preset.image
        try:
            image = open_image(data, max_pixels=None)
        except DataError as error:
            return f"image_format: {form}" if (form := foreign_format(data)) else f"unreadable_image: {error}"
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
            if contrast(small) < rules.min_contrast and (small.size == image.size or self._is_blank(data)):
                return f"image_blank: {width} x {height}"
        except DataError as error:
            return f"unreadable_image: {error}"
        return _ImageProperties(image.size, thumbnail(small) if self.preset.near_duplicates else b"")

    def _is_blank(self, data: bytes) -> bool:
        """Whether the whole image shows nothing: a fine pattern is lost at a smaller scale."""
        return contrast(decode_image(data, self.preset.image.max_pixels)) < self.preset.image.min_contrast

    # -- texts ----------------------------------------------------------------------------------------------------

    def _text_fault(self, sample: Sample, text: Document) -> str:
        if sample.source == "instructions" and not any(isinstance(part, TextPart) and part.loss for part in sample.parts):
            return "no_answer"
        return text_fault(_KINDS.get(sample.source, "caption"), text.words, self.preset.text, text)

    def _bad_node(self, sample: Sample, part: Part, document: Document) -> bool:
        if isinstance(part, ImagePart):
            return False
        fault = text_fault("node", Words(part.text), self.preset.node, document)
        if fault:
            self.tally.remove(*_counted(sample, fault))
        return bool(fault)


class Document:
    """All texts of a sample together; their words and language are found when they are needed."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    @cached_property
    def words(self) -> Words:
        """The words."""
        return Words("\n".join(self._sample.texts()))

    @cached_property
    def language(self) -> str | None:
        """The language; None if it has no list of stop words."""
        return language_of(self.words)


def document_fault(sample: Sample, preset: SourcePreset, text: Document | None = None) -> str:
    """Return the fault of an interleaved document as a whole; empty if it passes."""
    if not sample.images:
        return "no_images"
    if preset.max_document_images is not None and len(sample.images) > preset.max_document_images:
        return f"too_many_images: {len(sample.images)}"
    first_image = next(index for index, part in enumerate(sample.parts) if isinstance(part, ImagePart))
    if not any(isinstance(part, TextPart) for part in sample.parts[first_image:]):
        return "no_text_after_image"
    text = text or Document(sample)
    return text_fault("document", text.words, preset.text, text)


def text_fault(name: str, words: Words, rules: TextRules, document: Document) -> str:
    """Return the fault of a text; empty if it passes.

    Args:
        name: kind of text, with which the names of its filters begin.
        words: the text.
        rules: its thresholds.
        document: the text's document, which determines its language.
    """
    if len(words) < rules.min_words or (rules.max_words is not None and len(words) > rules.max_words):
        return f"{name}_length: {len(words)} words"
    if rules.min_letters and (share := letter_share(words.text)) < rules.min_letters:
        return f"{name}_letters: {share:.2f} of its characters"
    if rules.min_stop_words and words.stop_word_share < rules.min_stop_words and document.language is not None:
        share = stop_word_share(words, document.language)
        if share < rules.min_stop_words and (share := mixed_share(words, document.language)) < rules.min_stop_words:
            return f"{name}_stop_words: {share:.2f} (language {document.language})"
    if rules.max_character_repetition < 1 and (share := character_repetition(words.text)) > rules.max_character_repetition:
        return f"{name}_character_repetition: {share:.2f}"
    if rules.max_word_repetition < 1 and (share := words.repetition) > rules.max_word_repetition:
        return f"{name}_word_repetition: {share:.2f}"
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


def _counted(sample: Sample, fault: str) -> tuple[str, str]:
    """Split a fault into the name of its filter and an example."""
    name, _, reason = fault.partition(": ")
    return name, f"{sample.origin}: {reason}" if reason else sample.origin


def _address(sample: Sample, index: int) -> str:
    addresses = sample.meta.get("addresses", [])
    return str(addresses[index]) if index < len(addresses) else ""
