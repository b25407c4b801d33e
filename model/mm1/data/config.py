"""Data configuration: filter presets, shard sizes, loader limits. Torch-free."""

from __future__ import annotations

import math
from typing import Any

from mm1.config.base import Config
from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError

PART_BYTES = 64_000_000
"""Approximate raw size of a part of an ingest, in bytes."""
MAX_ROW_BYTES = 64 << 20
"""Maximum size of a row (a line, a list entry, the members of a pair), uncompressed, in bytes; a larger one is an odd row."""
MAX_DAMAGED_SHARE = 0.01
"""Maximum share of rows of a source that cannot be read, and of samples of a mixture that are damaged."""


class ImageRules(Config):
    """Requirements on images. The defaults only exclude what cannot be decoded safely."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Allowed encodings, by Pillow's names."""
    min_side_px: int = 1
    """Minimum length of the shorter side, in pixels."""
    max_side_px: int = 65_535
    """Maximum length of the longer side, in pixels; JPEG's own limit."""
    min_contrast: int = 0
    """Minimum difference between the lightest and the darkest value of a channel, of 255 levels; images below are blank."""
    max_aspect_ratio: float = math.inf
    """Maximum aspect ratio (longer side divided by shorter side)."""
    max_pixels: int = 120_000_000
    """Maximum number of pixels; larger images are never decoded (a small file can hold a huge image)."""
    address_words: tuple[str, ...] = ()
    """An image is considered page decoration if its address contains one of these words, in the singular or plural."""
    max_repeats: int | None = None
    """An image that occurs more often than this in a source is page decoration; all its occurrences are dropped."""
    once_per_document: bool = False
    """Keep only the first occurrence of an image in a document."""


class TextRules(Config):
    """Requirements on a text; the defaults require nothing.

    Words and ratios are defined in :mod:`mm1.data.prepare.words`.
    """

    min_words: int = 0
    """Minimum number of words."""
    max_words: int | None = None
    """Maximum number of words."""
    min_letters: float = 0.0
    """Minimum fraction of letters among the visible characters."""
    min_stop_words: float = 0.0
    """Minimum fraction of stop words, on the scale of English (:mod:`mm1.data.prepare.languages`)."""
    max_character_repetition: float = 1.0
    """Maximum fraction of repeated character 10-grams."""
    max_word_repetition: float = 1.0
    """Maximum fraction of repeated word 5-grams."""


class NearDuplicates(Config):
    """Definition of near duplicates: samples with similar texts and, if they have images, images that look the same.

    Images are compared by :func:`mm1.data.images.are_near`.
    """

    similarity: float = 0.8
    """Minimum Jaccard similarity of the texts' word shingles, estimated by MinHash."""
    shingle_words: int = 5
    """Number of words in a shingle; a shorter text is a single shingle."""


class SourcePreset(Config):
    """The thresholds of a preset for one kind of source."""

    image: ImageRules = ImageRules()
    text: TextRules = TextRules()
    """For all texts of a sample together."""
    node: TextRules = TextRules()
    """For each text of an interleaved document; texts that do not meet it are dropped, the document is kept."""
    max_document_images: int | None = None
    """Maximum number of images in an interleaved document; documents without images are always dropped."""
    drop_duplicates: bool = True
    """Drop exact duplicates: samples whose images and texts occurred before in their source."""
    near_duplicates: NearDuplicates | None = None
    """Also drop near duplicates."""


class FilterPreset(Config):
    """A named set of thresholds, separate for each kind of source."""

    captions: SourcePreset
    interleaved: SourcePreset
    text: SourcePreset
    instructions: SourcePreset

    def of(self, source: str) -> SourcePreset:
        """Return the thresholds for a source: captions, synthetic (as captions), interleaved, text or instructions."""
        preset: SourcePreset = getattr(self, "captions" if source == "synthetic" else source)
        return preset


# Rules for the decoration of pages are for pages: a caption set may hold several captions of an image, and instructions many
# questions about one. Images of any shape are useful there, such as lines of text.
_DECORATIONS: dict[str, Any] = {
    "address_words": ("logo", "button", "icon", "favicon", "plugin", "widget"),
    "max_repeats": 10,
    "once_per_document": True,
}
# MM1 states no rules for captions: sets such as CC12M (sides of at least 256 pixels) and COYO (200) were filtered before their
# release. These limits are our own; they exclude placeholders, and captions that are not text. Neither MM1 nor OBELICS states a
# rule for images of one colour, such as a white drawing on a transparent background: this limit is our own, too.
_MIN_CONTRAST = 3
_CAPTIONS = SourcePreset(
    image=ImageRules(min_side_px=100, min_contrast=_MIN_CONTRAST),
    text=TextRules(min_words=1, max_words=256, min_letters=0.5),
    near_duplicates=NearDuplicates(),
)
# MM1 states none for instructions either. Near duplicates are kept: two questions about an image may differ in one word.
_INSTRUCTIONS = SourcePreset()
_PAPER_TEXT = TextRules(
    min_words=10, max_words=50_000, min_stop_words=0.3, max_character_repetition=0.2, max_word_repetition=0.2
)
_OBELICS_TEXT = TextRules(
    min_words=10, max_words=2_000, min_stop_words=0.35, max_character_repetition=0.1, max_word_repetition=0.2
)
_TOY_IMAGE = ImageRules(min_side_px=8, max_side_px=4_096, max_aspect_ratio=4.0)
_TOY_TEXT = TextRules(min_words=2, max_words=5_000)
PRESETS: dict[str, FilterPreset] = {
    # MM1's own pipeline for interleaved pages, as far as it is published (appendix A): no images under 100 or over 10,000
    # pixels, with aspect ratios outside 1/2 to 2, of logos and buttons, or seen more than 10 times; documents of 1 to 30
    # images. The paper says that the text of pages was filtered by length, quality and duplicates in the manner of GPT-3 and
    # CCNet, but gives no numbers: the limits on stop words and repetition are those of OBELICS, which took these rules from
    # ROOTS (web text, so they apply to text, too); word counts are our own. Models that score language, profanity or quality
    # are not included (quality scores can be added later: mm1 data score).
    "paper": FilterPreset(
        captions=_CAPTIONS,
        interleaved=SourcePreset(
            image=ImageRules(
                min_side_px=100, max_side_px=10_000, max_aspect_ratio=2.0, min_contrast=_MIN_CONTRAST, **_DECORATIONS
            ),
            text=_PAPER_TEXT,
            node=TextRules(min_words=1, max_words=20_000),
            max_document_images=30,
            near_duplicates=NearDuplicates(),
        ),
        text=SourcePreset(text=_PAPER_TEXT, near_duplicates=NearDuplicates()),
        instructions=_INSTRUCTIONS,
    ),
    # OBELICS, from its published configuration (MM1 3.3 names it as the public part of the interleaved data). Its language
    # and perplexity limits need models and are omitted.
    "obelics": FilterPreset(
        captions=_CAPTIONS.model_copy(update={"text": TextRules(min_words=1, max_words=1_000)}),
        interleaved=SourcePreset(
            image=ImageRules(
                min_side_px=150,
                max_side_px=20_000,
                max_aspect_ratio=2.0,
                max_pixels=178_000_000,
                min_contrast=_MIN_CONTRAST,
                **_DECORATIONS,
            ),
            text=_OBELICS_TEXT,
            node=TextRules(
                min_words=4, max_words=1_000, min_stop_words=0.3, max_character_repetition=0.1, max_word_repetition=0.1
            ),
            max_document_images=30,
            near_duplicates=NearDuplicates(),
        ),
        text=SourcePreset(text=_OBELICS_TEXT, near_duplicates=NearDuplicates()),
        instructions=_INSTRUCTIONS,
    ),
    # The toy world: 32-pixel images and templated texts would not pass the real thresholds.
    "toy": FilterPreset(
        captions=SourcePreset(image=_TOY_IMAGE, text=TextRules(min_words=1, max_words=256)),
        interleaved=SourcePreset(
            image=_TOY_IMAGE, text=_TOY_TEXT, node=TextRules(min_words=1, max_words=5_000), max_document_images=64
        ),
        text=SourcePreset(text=_TOY_TEXT),
        instructions=SourcePreset(image=_TOY_IMAGE),
    ),
}


def preset_named(name: str) -> FilterPreset:
    """Look up a filter preset.

    Raises:
        ConfigurationError: unknown name.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset: unknown filter preset {name!r}; {suggest(name, list(PRESETS))}")
    return PRESETS[name]


class ShardLimits(Config):
    """Limits at which a new shard is started."""

    max_bytes: int = 64_000_000
    """Approximate maximum size of a tar, in bytes."""
    max_samples: int = 10_000
    """Maximum number of samples in a tar."""


class LoaderLimits(Config):
    """Limits on the loader's memory and on damaged samples."""

    cache_bytes: int = 1_000_000_000
    """Decoded samples are kept in memory if all images of the mixture together fit in this size."""
    cache_disk_bytes: int = 20_000_000_000
    """Maximum size of this machine's cache of shard blocks, for stores in a bucket."""
    prefetch_batches: int = 2
    """Prefetched micro-batches per worker."""
    max_damaged_share: float = MAX_DAMAGED_SHARE
    """Maximum fraction of damaged samples among those read; the run fails beyond it."""
    min_read_samples: int = 200
    """Number of samples after which the fraction is checked (one damaged sample among the first few is tolerated)."""
