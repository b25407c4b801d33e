"""Settings of the data room: filter presets, sizes of shards, limits of the loader. Torch-free."""

from __future__ import annotations

from mm1.config.base import Config
from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError


class ImageRules(Config):
    """What an image must be to stay."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    """Encodings that stay, by Pillow's names."""
    min_side_px: int
    """Shorter side at least, in pixels."""
    max_side_px: int
    """Longer side at most, in pixels."""
    max_aspect_ratio: float
    """Longer side divided by shorter side at most."""
    max_pixels: int = 120_000_000
    """Pixels at most; larger ones are never decoded (a small file can hold a huge image)."""
    address_words: tuple[str, ...] = ()
    """An image whose address contains one of these words is furniture of a page."""
    max_repeats: int | None = None
    """An image that occurs more often than this in a source is furniture: all its occurrences are dropped."""
    once_per_document: bool = False
    """Keep only the first copy of an image in a document."""


class TextRules(Config):
    """What the text of a sample must be for it to stay. Words are what stands between spaces.

    Ratios are those of :mod:`mm1.data.prepare.words`; 0 and 1 switch a limit off.
    """

    min_caption_words: int = 1
    """Words of a caption at least."""
    max_caption_words: int
    """Words of a caption at most."""
    min_caption_letters: float = 0.0
    """Share of letters among the characters of a caption, spaces left out, at least."""
    min_document_words: int
    """Words of a document at least."""
    max_document_words: int
    """Words of a document at most."""
    min_node_words: int
    """Words of one text node of an interleaved document at least; a shorter node is dropped, the document stays."""
    max_node_words: int
    """Words of one text node at most."""
    min_node_stop_words: float = 0.0
    """Share of English stop words of a node at least."""
    min_document_stop_words: float = 0.0
    """Share of English stop words of a document at least."""
    max_node_character_repetition: float = 1.0
    """Share of repeated 10-character stretches of a node at most."""
    max_document_character_repetition: float = 1.0
    """The same of a document."""
    max_node_word_repetition: float = 1.0
    """Share of 5-word stretches that occur more than once in a node at most."""
    max_document_word_repetition: float = 1.0
    """The same of a document."""


class NearDuplicates(Config):
    """When two samples are the same but for trifles: their texts are alike, and their images, where they have any."""

    similarity: float = 0.8
    """Jaccard similarity of the texts' word shingles at least, as MinHash estimates it."""
    shingle_words: int = 5
    """Words of a shingle; a shorter text is one shingle."""
    image_distance: int = 4
    """Differing bits of the images' 64-bit difference hashes at most."""


class FilterPreset(Config):
    """A named set of thresholds."""

    image: ImageRules
    text: TextRules
    max_document_images: int
    """Images of a document at most; documents without any are dropped always."""
    drop_duplicates: bool = True
    """Drop a sample whose images and texts together occurred before in its source."""
    near_duplicates: NearDuplicates | None = None
    """Drop near duplicates, too."""


_FURNITURE = ("logo", "button", "icon", "plugin", "widget")
PRESETS: dict[str, FilterPreset] = {
    # MM1's own pipeline for interleaved pages, as far as it is known (2.1): images under 100 or over 10,000 pixels,
    # outside 1/2 to 2, of logos and buttons, or seen more than 10 times; documents of 1 to 30 images. Of the text it is known
    # that length, quality and duplicates were filtered in the manner of GPT-3 and CCNet, not by which numbers: the limits on
    # stop words and repetition of a document are those of OBELICS, word counts and those of captions are ours. Models that
    # judge language, profanity or quality are not part of it (quality scores may come later: mm1 data score).
    "paper": FilterPreset(
        image=ImageRules(
            min_side_px=100,
            max_side_px=10_000,
            max_aspect_ratio=2.0,
            address_words=_FURNITURE,
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
    # OBELICS, from its published configuration (MM1 2.1 names it as the public part of the interleaved data); its language
    # and perplexity limits need models and are left out.
    "obelics": FilterPreset(
        image=ImageRules(
            min_side_px=150,
            max_side_px=20_000,
            max_aspect_ratio=2.0,
            max_pixels=178_000_000,
            address_words=_FURNITURE,
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
    """The filter preset of a name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset: no filter preset {name!r}; {suggest(name, list(PRESETS))}")
    return PRESETS[name]


class ShardLimits(Config):
    """When a new shard is begun."""

    max_bytes: int = 64_000_000
    """Bytes of a tar, about."""
    max_samples: int = 10_000
    """Samples of a tar at most."""


class LoaderLimits(Config):
    """How the loader spends memory and what it puts up with."""

    cache_bytes: int = 1_000_000_000
    """Decoded samples are kept in memory when all images of the mixture together take no more than this."""
    cache_disk_bytes: int = 20_000_000_000
    """Of a store in a bucket, blocks of shards are kept on this machine up to this size."""
    prefetch_batches: int = 2
    """Micro-batches prepared ahead, by each worker."""
    max_damaged_share: float = 0.01
    """Share of damaged samples among those read beyond which the run ends."""
    min_read_samples: int = 200
    """The share is judged after this many samples (a single damaged one among the first few is no catastrophe)."""
