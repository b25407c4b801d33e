"""Data configuration: filter presets, shard sizes, loader limits. Torch-free."""

from __future__ import annotations

from mm1.config.base import Config
from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError


class ImageRules(Config):
    """Requirements on images."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Allowed encodings, by Pillow's names."""
    min_side_px: int
    """Minimum length of the shorter side, in pixels."""
    max_side_px: int
    """Maximum length of the longer side, in pixels."""
    max_aspect_ratio: float
    """Maximum aspect ratio (longer side divided by shorter side)."""
    max_pixels: int = 120_000_000
    """Maximum number of pixels; larger images are never decoded (a small file can hold a huge image)."""
    address_words: tuple[str, ...] = ()
    """An image is considered page decoration if its address contains one of these words."""
    max_repeats: int | None = None
    """An image that occurs more often than this in a source is page decoration; all its occurrences are dropped."""
    once_per_document: bool = False
    """Keep only the first occurrence of an image in a document."""


class TextRules(Config):
    """Requirements on the text of a sample. Words are separated by whitespace.

    Ratios are defined in :mod:`mm1.data.prepare.words`; 0 and 1 disable a limit.
    """

    min_caption_words: int = 1
    """Minimum number of words in a caption."""
    max_caption_words: int
    """Maximum number of words in a caption."""
    min_caption_letters: float = 0.0
    """Minimum fraction of letters among a caption's non-space characters."""
    min_document_words: int
    """Minimum number of words in a document."""
    max_document_words: int
    """Maximum number of words in a document."""
    min_node_words: int
    """Minimum number of words in a text node of an interleaved document; shorter nodes are dropped, the document is kept."""
    max_node_words: int
    """Maximum number of words in a text node."""
    min_node_stop_words: float = 0.0
    """Minimum fraction of English stop words in a node."""
    min_document_stop_words: float = 0.0
    """Minimum fraction of English stop words in a document."""
    max_node_character_repetition: float = 1.0
    """Maximum fraction of repeated character 10-grams in a node."""
    max_document_character_repetition: float = 1.0
    """Maximum fraction of repeated character 10-grams in a document."""
    max_node_word_repetition: float = 1.0
    """Maximum fraction of repeated word 5-grams in a node."""
    max_document_word_repetition: float = 1.0
    """Maximum fraction of repeated word 5-grams in a document."""


class NearDuplicates(Config):
    """Definition of near duplicates: samples with similar texts and, if they have images, similar images."""

    similarity: float = 0.8
    """Minimum Jaccard similarity of the texts' word shingles, estimated by MinHash."""
    shingle_words: int = 5
    """Number of words in a shingle; a shorter text is a single shingle."""
    image_distance: int = 4
    """Maximum number of differing bits between the images' 64-bit difference hashes."""


class FilterPreset(Config):
    """A named set of thresholds."""

    image: ImageRules
    text: TextRules
    max_document_images: int
    """Maximum number of images in a document; documents without images are always dropped."""
    drop_duplicates: bool = True
    """Drop exact duplicates: samples whose images and texts occurred before in their source."""
    near_duplicates: NearDuplicates | None = None
    """Also drop near duplicates."""


_DECORATIONS = ("logo", "button", "icon", "plugin", "widget")
PRESETS: dict[str, FilterPreset] = {
    # MM1's own pipeline for interleaved pages, as far as it is published (2.1): no images under 100 or over 10,000 pixels, with
    # aspect ratios outside 1/2 to 2, of logos and buttons, or seen more than 10 times; documents of 1 to 30 images. The paper
    # says that text was filtered by length, quality and duplicates in the manner of GPT-3 and CCNet, but gives no numbers: the
    # limits on stop words and repetition in documents are those of OBELICS, word counts and caption limits are our own. Models
    # that score language, profanity or quality are not included (quality scores can be added later: mm1 data score).
    "paper": FilterPreset(
        image=ImageRules(
            min_side_px=100,
            max_side_px=10_000,
            max_aspect_ratio=2.0,
            address_words=_DECORATIONS,
            max_repeats=10,
            once_per_document=True,
        ),
        text=TextRules(
            max_caption_words=256,
            min_caption_letters=0.5,
            min_document_words=10,
            max_document_words=50_000,
            min_node_words=1,
            max_node_words=20_000,
            min_document_stop_words=0.3,
            max_document_character_repetition=0.2,
            max_document_word_repetition=0.2,
        ),
        max_document_images=30,
        near_duplicates=NearDuplicates(),
    ),
    # OBELICS, from its published configuration (MM1 2.1 names it as the public part of the interleaved data). Its language
    # and perplexity limits need models and are omitted.
    "obelics": FilterPreset(
        image=ImageRules(
            min_side_px=150,
            max_side_px=20_000,
            max_aspect_ratio=2.0,
            max_pixels=178_000_000,
            address_words=_DECORATIONS,
            max_repeats=10,
            once_per_document=True,
        ),
        text=TextRules(
            max_caption_words=1_000,
            min_document_words=10,
            max_document_words=2_000,
            min_node_words=4,
            max_node_words=1_000,
            min_node_stop_words=0.3,
            min_document_stop_words=0.35,
            max_node_character_repetition=0.1,
            max_document_character_repetition=0.1,
            max_node_word_repetition=0.1,
            max_document_word_repetition=0.2,
        ),
        max_document_images=30,
        near_duplicates=NearDuplicates(),
    ),
    # The toy world: 32-pixel images and templated texts would not pass the real thresholds.
    "toy": FilterPreset(
        image=ImageRules(min_side_px=8, max_side_px=4_096, max_aspect_ratio=4.0),
        text=TextRules(
            max_caption_words=256,
            min_document_words=2,
            max_document_words=5_000,
            min_node_words=1,
            max_node_words=5_000,
        ),
        max_document_images=64,
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
    max_damaged_share: float = 0.01
    """Maximum fraction of damaged samples among those read; the run fails beyond it."""
    min_read_samples: int = 200
    """Number of samples after which the fraction is checked (one damaged sample among the first few is tolerated)."""
