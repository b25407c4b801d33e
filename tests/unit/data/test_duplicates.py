"""Duplicates: exact and near, by image and text together, over all parts; nothing depends on how samples are cut into parts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.config import PRESETS, NearDuplicates
from mm1.data.images import difference_hash
from mm1.data.prepare.duplicates import WHOLE_SAMPLE, find_drops, read_drops, write_drops
from mm1.data.prepare.filters import Kept
from mm1.data.prepare.signatures import Signatures
from mm1.data.sample import ImagePart, Sample, TextPart

PAPER = PRESETS["paper"]
WORDS = [f"word{number}" for number in range(400)]


def kept(text, *images, origin="o", hashes=None):
    """A sample as the filters leave it; images are numbers that stand for their content."""
    parts = [*(ImagePart(number) for number in range(len(images))), TextPart(text)]
    sample = Sample("", "interleaved", parts, [b""] * len(images), {"origin": origin})
    digests = [int(image).to_bytes(16, "big") for image in images]
    return Kept(
        sample, digests, [(200, 100)] * len(images), list(hashes or [image * 0x9E3779B97F4A7C15 % 2**64 for image in images])
    )


def drops_of(folder, samples, cuts=(), preset=PAPER):
    """(place in the whole order, image, reason) of everything that goes, the samples cut into parts."""
    bounds = [0, *sorted(set(cuts)), len(samples)]
    paths = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        signatures = Signatures(number, preset.near_duplicates)
        for sample in samples[start:stop]:
            signatures.add(sample)
        paths.append(signatures.write(folder / f"{number}.parquet"))
    return [(bounds[drop.number] + drop.row, drop.image, drop.reason) for drop in find_drops(paths, preset, folder)]


def text(seed, count=60):
    return " ".join(np.random.default_rng(seed).choice(WORDS, count))


def changed(original, number):
    words = original.split()
    return " ".join([*words[:-number], *(f"new{place}" for place in range(number))])


def test_equal_samples_in_different_parts_the_first_stays(tmp_path):
    samples = [kept(text(0), 1), kept(text(1), 1), kept(text(0), 2), kept(text(0), 1), kept(text(0), 1)]
    assert drops_of(tmp_path, samples, cuts=[2, 4]) == [(3, WHOLE_SAMPLE, "duplicate"), (4, WHOLE_SAMPLE, "duplicate")]


def test_near_texts_go_when_their_images_are_near_too(tmp_path):
    near = changed(text(0), 3)
    close, far = 0b1011, 2**64 - 1
    samples = [
        kept(text(0)),
        kept(near),  # no images on either side: texts alone are judged
        kept(changed(text(0), 40)),
        kept(text(5), 1, hashes=[0]),
        kept(changed(text(5), 2), 2, hashes=[close]),  # another file of the same picture
        kept(changed(text(5), 3), 3, hashes=[far]),  # another picture
        kept(text(7), 1, hashes=[0]),  # the same picture with another text
        kept(changed(text(5), 4), 1, 2, hashes=[0, 0]),  # more pictures
    ]
    assert drops_of(tmp_path, samples, cuts=[1, 5]) == [
        (1, WHOLE_SAMPLE, "near_duplicate"),
        (4, WHOLE_SAMPLE, "near_duplicate"),
    ]


def test_an_image_that_is_everywhere_goes_from_everywhere(tmp_path):
    samples = [kept(text(number), 7, 100 + number) for number in range(11)]
    assert drops_of(tmp_path, samples, cuts=[4]) == [(number, 0, "image_repeated") for number in range(11)]
    assert drops_of(tmp_path, samples[:10]) == []


def test_toy_texts_are_judged_exactly_only(tmp_path):
    samples = [kept("a red ring", 1), kept("a red ring", 2), kept("a red ring", 1)]
    assert drops_of(tmp_path, samples, preset=PRESETS["toy"]) == [(2, WHOLE_SAMPLE, "duplicate")]


def test_drops_are_written_and_read(tmp_path):
    samples = [kept(text(0), 1, origin="a:1"), kept(text(0), 1, origin="a:2")]
    signatures = Signatures(0, PAPER.near_duplicates)
    for sample in samples:
        signatures.add(sample)
    found = find_drops([signatures.write(tmp_path / "s.parquet")], PAPER, tmp_path)
    assert read_drops(write_drops(found, tmp_path / "d.parquet")) == {1: {-1: ("duplicate", "a:2")}}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2)), min_size=1, max_size=30
    ),
    cuts=st.lists(st.integers(1, 29), max_size=4),
)
def test_the_outcome_does_not_depend_on_the_parts(tmp_path_factory, content, cuts):
    folder = tmp_path_factory.mktemp("parts")
    samples = [kept(changed(text(seed), 1 + edits), *images) for seed, edits, images in content]
    whole = drops_of(folder, samples)
    assert drops_of(folder, samples, [cut for cut in cuts if cut < len(samples)]) == whole
    gone = {place for place, _, _ in whole}
    assert 0 not in gone
    for place in gone:  # something like it, before it
        assert any(content[before][0] == content[place][0] for before in range(place))


def test_texts_of_any_similarity_are_judged_by_their_similarity(tmp_path):
    near = NearDuplicates(similarity=0.8)
    preset = PAPER.model_copy(update={"near_duplicates": near})
    gone = {}
    for edits in (1, 4, 30):
        found = 0
        for seed in range(20):
            original = text(seed, 100)
            found += bool(drops_of(tmp_path, [kept(original), kept(changed(original, edits))], preset=preset))
        gone[edits] = found
    assert gone[1] >= 19 and gone[4] >= 15 and gone[30] == 0


def test_pictures_that_look_alike_have_near_hashes():
    from PIL import Image

    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((300, 200), Image.Resampling.BICUBIC)
    other = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((300, 200), Image.Resampling.BICUBIC)
    resized = picture.resize((200, 133), Image.Resampling.BICUBIC)
    assert (difference_hash(picture) ^ difference_hash(resized)).bit_count() <= 4
    assert (difference_hash(picture) ^ difference_hash(other)).bit_count() > 10


@pytest.mark.parametrize("count", [0, 3])
def test_samples_without_words_have_no_near_duplicates(tmp_path, count):
    assert drops_of(tmp_path, [kept("", number) for number in range(count)]) == []
