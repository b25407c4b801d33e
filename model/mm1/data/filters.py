"""Filters: which samples (and which images of a document) stay. Every drop is counted under its filter's name.

    sample -> images, one by one -> texts -> the whole (images per document, text after an image) -> duplicates -> sample | None

A caption pair or a conversation with a bad image goes; an interleaved document loses the image and stays. Thresholds come
from a named preset (:data:`mm1.data.config.PRESETS`).
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from mm1.data.config import FilterPreset
from mm1.data.images import check_decodes, open_image
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.errors import DataError


class Filters:
    """The filters of one source, with what they have seen so far.

    Args:
        preset: thresholds.

    Attributes:
        dropped: filter -> samples (or images of documents) that it dropped.
        examples: filter -> where its first victim came from, with the reason.
    """

    def __init__(self, preset: FilterPreset) -> None:
        self.preset = preset
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._seen_samples: set[bytes] = set()
        self._seen_images: Counter[bytes] = Counter()

    def apply(self, sample: Sample) -> Sample | None:
        """Judge a sample; None when it is dropped. Documents may come back without some of their images and texts."""
        digests = [blake2b(image, digest_size=16).digest() for image in sample.images]
        faults = [self._image_fault(sample, index, digests) for index in range(len(sample.images))]
        if sample.source != "interleaved":
            fault = next(filter(None, faults), "") or self._text_fault(sample) or self._duplicate(sample, digests)
            return self._kept(sample, fault)
        kept = [index for index, fault in enumerate(faults) if not fault]
        for fault in filter(None, faults):
            self._count(sample, fault)
        document = _with_images(sample, kept)
        document.parts = [part for part in document.parts if not self._bad_node(document, part)]
        fault = self._document_fault(document) or self._duplicate(document, [digests[index] for index in kept])
        return self._kept(document, fault)

    def _kept(self, sample: Sample, fault: str) -> Sample | None:
        if fault:
            self._count(sample, fault)
        return None if fault else sample

    def _count(self, sample: Sample, fault: str) -> None:
        name, _, reason = fault.partition(": ")
        self.dropped[name] += 1
        self.examples.setdefault(name, f"{sample.origin}: {reason}" if reason else sample.origin)

    # -- images ---------------------------------------------------------------------------------------------------

    def _image_fault(self, sample: Sample, index: int, digests: list[bytes]) -> str:
        rules, data = self.preset.image, sample.images[index]
        if not data:
            return "missing_image"
        address = _address(sample, index)
        if word := next((word for word in rules.address_words if word in address.lower()), ""):
            return f"image_address: {word} in {address[:80]}"
        if rules.once_per_document and digests[index] in digests[:index]:
            return "image_twice_in_document"
        if rules.max_repeats is not None:
            self._seen_images[digests[index]] += 1
            if self._seen_images[digests[index]] > rules.max_repeats:
                return "image_repeated"
        return self._pixel_fault(data)

    def _pixel_fault(self, data: bytes) -> str:
        rules = self.preset.image
        try:
            image = open_image(data)
        except DataError as error:
            return f"unreadable_image: {error}"
        short, long = sorted(image.size)
        if image.format not in rules.formats:
            return f"image_format: {image.format}"
        if short < rules.min_side_px:
            return f"image_too_small: {image.width} x {image.height}"
        if long > rules.max_side_px or short * long > rules.max_pixels:
            return f"image_too_large: {image.width} x {image.height}"
        if long > rules.max_aspect_ratio * short:
            return f"image_aspect_ratio: {image.width} x {image.height}"
        try:
            check_decodes(image)
        except DataError as error:
            return f"unreadable_image: {error}"
        return ""

    # -- texts ----------------------------------------------------------------------------------------------------

    def _text_fault(self, sample: Sample) -> str:
        rules = self.preset.text
        num_words = _count_words(sample)
        if sample.source == "captions":
            fits = rules.min_caption_words <= num_words <= rules.max_caption_words
            return "" if fits else f"caption_length: {num_words} words"
        if sample.source == "instructions":
            answers = any(isinstance(part, TextPart) and part.loss for part in sample.parts)
            return "" if answers else "no_answer"
        return self._length_fault(num_words)

    def _length_fault(self, num_words: int) -> str:
        rules = self.preset.text
        fits = rules.min_document_words <= num_words <= rules.max_document_words
        return "" if fits else f"document_length: {num_words} words"

    def _bad_node(self, sample: Sample, part: Part) -> bool:
        if isinstance(part, ImagePart):
            return False
        num_words = len(part.text.split())
        if self.preset.text.min_node_words <= num_words <= self.preset.text.max_node_words:
            return False
        self._count(sample, f"node_length: {num_words} words")
        return True

    def _document_fault(self, document: Sample) -> str:
        if not document.images:
            return "no_images"
        if len(document.images) > self.preset.max_document_images:
            return f"too_many_images: {len(document.images)}"
        first_image = next(place for place, part in enumerate(document.parts) if isinstance(part, ImagePart))
        if not any(isinstance(part, TextPart) for part in document.parts[first_image:]):
            return "no_text_after_image"
        return self._length_fault(_count_words(document))

    # -- duplicates -----------------------------------------------------------------------------------------------

    def _duplicate(self, sample: Sample, digests: list[bytes]) -> str:
        """Images and texts are judged together: one image with two captions is two samples."""
        if not self.preset.drop_duplicates:
            return ""
        digest = blake2b(digest_size=16)
        for part in sample.parts:
            digest.update(digests[part.image] if isinstance(part, ImagePart) else part.text.encode())
            digest.update(b"\0")
        if digest.digest() in self._seen_samples:
            return "duplicate"
        self._seen_samples.add(digest.digest())
        return ""


def _with_images(sample: Sample, kept: list[int]) -> Sample:
    """The sample with some of its images only."""
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


def _count_words(sample: Sample) -> int:
    return sum(len(text.split()) for text in sample.texts())


def _address(sample: Sample, index: int) -> str:
    addresses = sample.meta.get("addresses", [])
    return str(addresses[index]) if index < len(addresses) else ""
