"""Filters: each threshold at its border, images and texts of documents, duplicates, damage."""

import numpy as np
import pytest

from mm1.data.config import PRESETS, preset_named
from mm1.data.images import decode, open_image
from mm1.data.prepare.filters import Filters
from mm1.data.prepare.words import STOP_WORDS
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
    filters = Filters(PRESETS[preset].of(sample.source))
    kept = filters.apply(sample)
    return "kept" if kept else "+".join([*filters.tally.removed, *filters.tally.dropped])


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (pair(image(100, 100)), "kept"),
        (pair(image(99, 120)), "image_too_small"),
        (pair(image(100, 200)), "kept"),
        (pair(image(image_format="GIF")), "image_format"),
        (pair(image(image_format="WEBP")), "kept"),
        (pair(image(image_format="JPEG")[:-300]), "unreadable_image"),
        (pair(image()[:-300]), "unreadable_image"),
        (pair(b"<html>not found</html>"), "unreadable_image"),
        (pair(b""), "missing_image"),
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
        (document(image(100, 200), LONG), "kept"),
        (document(image(100, 201), LONG), "image_aspect_ratio+no_images"),
        (document(image(10_001, 101), LONG), "image_too_large+no_images"),
        (document(image(), LONG, addresses=["https://x/Logo_small.png"]), "image_address+no_images"),
        (document(*[image(seed=n) for n in range(30)], LONG), "kept"),
        (document(*[image(seed=n) for n in range(31)], LONG), "too_many_images"),
        (Sample("", "text", [TextPart(LONG)]), "kept"),
        (Sample("", "text", [TextPart("one two three")]), "document_length"),
    ],
)
def test_thresholds_of_paper_for_documents(sample, expected):
    assert verdict(sample) == expected


def test_a_document_loses_bad_images_and_short_nodes_and_stays():
    filters = Filters(PRESETS["obelics"].interleaved)
    good, other = image(160, 160, 1), image(160, 160, 2)
    kept = filters.apply(document(image(160, 160)[:90], "too short", good, LONG, good, other, addresses=["a", "b", "c", "d"]))
    kept = kept.sample
    assert kept.parts == [ImagePart(0), TextPart(LONG), ImagePart(1)]
    assert kept.images == [good, other]
    assert kept.meta["addresses"] == ["b", "d"]
    assert filters.tally.removed == {"unreadable_image": 1, "node_length": 1, "image_twice_in_document": 1}


@pytest.mark.parametrize("preset", ["paper", "obelics", "toy"])
def test_a_samples_fate_does_not_depend_on_others(preset):
    samples = [pair(image(), "a"), pair(image(), "a"), document(image(200, 200), LONG), document(image(200, 200), LONG)]
    for alike in (samples[:2], samples[2:]):
        rules = PRESETS[preset].of(alike[0].source)
        filters = Filters(rules)
        fates = [filters.apply(sample) is not None for sample in alike]
        assert fates == [Filters(rules).apply(sample) is not None for sample in reversed(alike)]
        assert fates[0] == fates[1]


def test_three_victims_of_each_filter_are_named_with_the_reason():
    filters = Filters(PRESETS["paper"].captions)
    for width in range(90, 96):
        filters.apply(pair(image(width, 99)))
    assert filters.tally.dropped == {"image_too_small": 6}
    assert filters.tally.examples["image_too_small"] == [f"o: {width} x 99" for width in (90, 91, 92)]


def english(num_words, stop_words):
    """A text of different words, some of them stop words."""
    stops = [word for word in sorted(STOP_WORDS)][:stop_words]
    return " ".join([*stops, *(f"word{number}x" for number in range(num_words - len(stops)))])


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        ("paper", english(100, 30), "kept"),
        ("paper", english(100, 29), "document_stop_words"),
        ("paper", english(9, 9), "document_length"),
        ("obelics", english(100, 35), "kept"),
        ("obelics", english(100, 34), "document_stop_words"),
        ("obelics", english(2_001, 90), "document_length"),
        ("paper", english(50_001, 90), "document_length"),
        ("paper", english(40, 20) + " buy it now at the shop" * 2, "kept"),
        ("paper", english(20, 10) + " buy it now at the shop" * 9, "document_character_repetition"),
    ],
)
def test_thresholds_of_a_documents_text(preset, text, expected):
    assert verdict(Sample("", "text", [TextPart(text)]), preset) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (english(20, 6), "kept"),
        (english(20, 5), "node_stop_words"),
        (english(3, 3), "node_length"),
        (english(1_001, 90) + " " + english(400, 90), "node_length"),
        ("the same few words of it and " * 6, "node_character_repetition"),
    ],
)
def test_thresholds_of_a_node_in_obelics(text, expected):
    filters = Filters(PRESETS["obelics"].interleaved)
    good = english(60, 40).replace("word", "other")
    filters.apply(document(image(200, 200), text, good))
    assert (next(iter([*filters.tally.removed, *filters.tally.dropped]), "kept")) == expected


@pytest.mark.parametrize(("text", "expected"), [("ab 12", "kept"), ("a 123", "caption_letters"), ("--- 1", "caption_letters")])
def test_a_caption_is_made_of_letters(text, expected):
    assert verdict(pair(image(), text)) == expected


@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        ("obelics", (150, 150), "kept"),
        ("obelics", (149, 150), "image_too_small"),
        ("obelics", (150, 301), "image_aspect_ratio"),
        ("toy", (8, 32), "kept"),
        ("toy", (7, 8), "image_too_small"),
        ("toy", (8, 33), "image_aspect_ratio"),
    ],
)
def test_thresholds_of_images_in_the_other_presets(preset, size, expected):
    assert verdict(document(image(*size), english(20, 12)), preset).removesuffix("+no_images") == expected


def test_realistic_sizes_and_texts_pass_the_paper():
    random = np.random.default_rng(0)
    kept = 0
    for number in range(60):
        width = int(np.clip(random.lognormal(6.0, 0.5), 60, 1500))
        height = int(np.clip(width * random.uniform(0.4, 1.8), 60, 1500))
        sample = document(image(width, height, number, "JPEG"), english(int(random.integers(30, 200)), 25))
        short, long = sorted((width, height))
        expected = short >= 100 and long <= 2 * short and len(sample.parts[1].text.split()) <= 83
        found = verdict(sample)
        assert (found == "kept") == expected, (found, width, height)
        kept += expected
    assert 5 < kept < 55


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


def chat(*images, text="what is it ?"):
    parts = [*(ImagePart(number) for number in range(len(images))), TextPart(text, loss=False), TextPart("a dog")]
    return Sample("", "instructions", parts, list(images), {"origin": "c", "addresses": ["x/logo.png"] * len(images)})


@pytest.mark.parametrize("preset", ["paper", "obelics"])
@pytest.mark.parametrize("source", ["captions", "synthetic", "instructions"])
def test_rules_for_the_decoration_of_pages_are_for_pages(preset, source):
    wide, line = image(448, 160), image(2_000, 101)
    for data in (wide, line):
        sample = pair(data, address="https://x/icons/logo.png") if source != "instructions" else chat(data, data)
        sample.source = source
        assert verdict(sample, preset) == "kept"
    rules = PRESETS[preset].of(source).image
    assert (rules.address_words, rules.max_repeats, rules.once_per_document) == ((), None, False)


def test_an_instruction_may_have_a_small_image():
    assert verdict(chat(image(40, 9))) == "kept"


@pytest.mark.parametrize("source", ["captions", "interleaved", "text", "instructions"])
def test_real_data_have_presets_for_each_source(source):
    for preset in PRESETS.values():
        assert preset.of(source).drop_duplicates
    assert (PRESETS["paper"].of(source).near_duplicates is None) == (source == "instructions")


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a drawing -->\n<!DOCTYPE svg>\n<svg></svg>', "SVG"),
        (b"\x00\x00\x00\x20ftypavif" + bytes(40), "AVIF"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC"),
        (b"%PDF-1.7\n", "PDF"),
    ],
)
def test_formats_that_are_not_decoded_are_named(data, form):
    filters = Filters(preset_named("paper").of("captions"))
    assert (
        filters.apply(Sample("", "captions", [ImagePart(0), TextPart("a drawing of a house")], [data], {"origin": "a:1"}))
        is None
    )
    assert filters.tally.dropped == {"image_format": 1} and filters.tally.examples["image_format"] == [f"a:1: {form}"]
