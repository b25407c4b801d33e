"""Filters: each threshold at its border, images and texts of documents, duplicates, damage."""

import pytest

from mm1.data.config import PRESETS, preset_named
from mm1.data.filters import Filters
from mm1.data.images import decode, open_image
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.errors import ConfigurationError, DataError
from tests.support.mixtures import encoded_image


def image(width=120, height=120, seed=0, image_format="PNG"):
    return encoded_image(seed, image_format=image_format, size=(width, height))


def pair(data, text="a red ring", address=""):
    return Sample("", "captions", [ImagePart(0), TextPart(text)], [data], {"origin": "o", "addresses": [address]})


def document(*items, addresses=None):
    images = [item for item in items if isinstance(item, bytes)]
    parts, number = [], 0
    for item in items:
        parts.append(ImagePart(number) if isinstance(item, bytes) else TextPart(item))
        number += isinstance(item, bytes)
    return Sample("", "interleaved", parts, images, {"origin": "d", "addresses": addresses or [""] * len(images)})


LONG = "these are the ten words that a document must have"


def verdict(sample, preset="paper"):
    filters = Filters(PRESETS[preset])
    kept = filters.apply(sample)
    return "kept" if kept else "+".join(filters.dropped)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (pair(image(100, 100)), "kept"),
        (pair(image(99, 120)), "image_too_small"),
        (pair(image(100, 200)), "kept"),
        (pair(image(100, 201)), "image_aspect_ratio"),
        (pair(image(10_001, 101)), "image_too_large"),
        (pair(image(image_format="GIF")), "image_format"),
        (pair(image(image_format="WEBP")), "kept"),
        (pair(image(image_format="JPEG")[:-300]), "unreadable_image"),
        (pair(image()[:-300]), "unreadable_image"),
        (pair(b"<html>not found</html>"), "unreadable_image"),
        (pair(b""), "missing_image"),
        (pair(image(), address="https://x/Logo_small.png"), "image_address"),
        (pair(image(), text="word " * 256), "kept"),
        (pair(image(), text="word " * 257), "caption_length"),
        (pair(image(), text=" "), "caption_length"),
    ],
)
def test_thresholds_of_paper_for_pairs(sample, expected):
    assert verdict(sample) == expected


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (document(image(), LONG), "kept"),
        (document(image(), "too short"), "document_length"),
        (document(LONG), "no_images"),
        (document(LONG, image()), "no_text_after_image"),
        (document(image(50, 50), LONG), "image_too_small+no_images"),
        (document(*[image(seed=n) for n in range(30)], LONG), "kept"),
        (document(*[image(seed=n) for n in range(31)], LONG), "too_many_images"),
        (Sample("", "text", [TextPart(LONG)]), "kept"),
        (Sample("", "text", [TextPart("one two three")]), "document_length"),
    ],
)
def test_thresholds_of_paper_for_documents(sample, expected):
    assert verdict(sample) == expected


def test_a_document_loses_bad_images_and_short_nodes_and_stays():
    filters = Filters(PRESETS["obelics"])
    good, other = image(160, 160, 1), image(160, 160, 2)
    kept = filters.apply(document(image(160, 160)[:90], "too short", good, LONG, good, other, addresses=["a", "b", "c", "d"]))
    assert kept.parts == [ImagePart(0), TextPart(LONG), ImagePart(1)]
    assert kept.images == [good, other]
    assert kept.meta["addresses"] == ["b", "d"]
    assert filters.dropped == {"unreadable_image": 1, "node_length": 1, "image_twice_in_document": 1}


def test_an_image_that_occurs_everywhere_is_dropped_after_the_tenth_time():
    filters = Filters(PRESETS["paper"])
    verdicts = [filters.apply(document(image(), f"{LONG} {number}")) is not None for number in range(12)]
    assert verdicts == [True] * 10 + [False] * 2
    assert filters.dropped["image_repeated"] == 2


def test_duplicates_are_judged_by_image_and_text_together():
    filters = Filters(PRESETS["paper"])
    samples = [pair(image(), "a"), pair(image(), "b"), pair(image(seed=1), "a"), pair(image(), "a")]
    assert [filters.apply(sample) is not None for sample in samples] == [True, True, True, False]
    assert filters.dropped == {"duplicate": 1}
    assert filters.examples["duplicate"] == "o"


def test_a_conversation_needs_an_answer_and_whole_images():
    asked = [TextPart("<|im_start|>user\nx<|im_end|>\n", loss=False)]
    assert verdict(Sample("", "instructions", asked), "toy") == "no_answer"
    answered = [*asked, TextPart("y<|im_end|>")]
    assert verdict(Sample("", "instructions", answered), "toy") == "kept"
    assert verdict(Sample("", "instructions", [ImagePart(0), *answered], [b"x"]), "toy") == "unreadable_image"


def test_an_image_bomb_is_never_decoded():
    with pytest.raises(DataError, match="more than 10000 are not decoded"):
        open_image(image(), max_pixels=10_000)


def test_images_become_square_rgb():
    for image_format, size in (("PNG", (30, 20)), ("JPEG", (16, 16)), ("WEBP", (8, 40))):
        pixels = decode(encoded_image(0, image_format=image_format, size=size), 16)
        assert pixels.shape == (16, 16, 3) and pixels.dtype == "uint8"


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'obelics'"):
        preset_named("obelix")
