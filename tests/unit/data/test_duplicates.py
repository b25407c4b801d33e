"""Duplicates: exact and near, by image and text together, over all parts; nothing depends on how samples are cut into parts."""

from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.config import PRESETS, NearDuplicates
from mm1.data.images import THUMBNAIL_BYTES
from mm1.data.prepare.duplicates import EQUAL_BY_CHANCE, WHOLE_SAMPLE, read_drops, similar_images, write_drops
from mm1.data.prepare.filters import Document, Kept
from mm1.data.prepare.signatures import PERMUTATIONS, SCHEME, MinHasher, Signatures
from mm1.data.prepare.words import Words
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.errors import OutOfMemory

PAPER = PRESETS["paper"].interleaved
WORDS = [f"word{number}" for number in range(400)]


def look(seed, noise=0):
    """A thumbnail; those of different seeds look different, and noise changes little."""
    values = np.random.default_rng(seed).integers(10, 240, THUMBNAIL_BYTES)
    return (values + np.random.default_rng(9).integers(-noise, noise + 1, THUMBNAIL_BYTES)).astype(np.uint8).tobytes()


def kept(text, *images, origin="o", looks=None):
    """A sample as the filters leave it; images are numbers that stand for their content."""
    parts = [*(ImagePart(number) for number in range(len(images))), TextPart(text)]
    sample = Sample("", "interleaved", parts, [b""] * len(images), {"origin": origin})
    digests = [int(image).to_bytes(16, "little") for image in images]
    return Kept(sample, digests, [(200, 100)] * len(images), list(looks or map(look, images)), Document(sample))


def signatures_of(samples, path, number=0, preset=PAPER):
    with Signatures(path, number, preset.near_duplicates) as signatures:
        for sample in samples:
            signatures.add(sample)
    return path


def drops_of(folder, samples, cuts=(), preset=PAPER):
    """(place in the whole order, image, reason) of everything that goes, the samples cut into parts."""
    bounds = [0, *sorted(set(cuts)), len(samples)]
    paths = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        paths.append(signatures_of(samples[start:stop], folder / f"{number}.parquet", number, preset))
    return [
        (bounds[number] + row, image, reason)
        for number, path in write_drops(paths, preset, folder / "drops").items()
        for row, drops in read_drops(path).items()
        for image, reason in drops.items()
    ]


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
    samples = [
        kept(text(0)),
        kept(near),  # no images on either side: texts alone are judged
        kept(changed(text(0), 40)),
        kept(text(5), 1, looks=[look(0)]),
        kept(changed(text(5), 2), 2, looks=[look(0, 2)]),  # another file of the same picture
        kept(changed(text(5), 3), 3),  # another picture
        kept(text(7), 1, looks=[look(0)]),  # the same picture with another text
        kept(changed(text(5), 4), 1, 2, looks=[look(0), look(0)]),  # more pictures
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
    assert drops_of(tmp_path, samples, preset=PRESETS["toy"].captions) == [(2, WHOLE_SAMPLE, "duplicate")]


def test_drops_of_each_part_are_a_file_of_rows_images_and_reasons(tmp_path):
    samples = [kept(text(0), 1), kept(text(0), 1)]
    paths = [signatures_of(samples[:size], tmp_path / f"{number}.parquet", number) for number, size in enumerate([1, 0, 2, 2])]
    drops = write_drops(paths, PAPER, tmp_path / "drops")
    assert {number: read_drops(path) for number, path in drops.items()} == {
        number: {0: {WHOLE_SAMPLE: "duplicate"}, 1: {WHOLE_SAMPLE: "duplicate"}} for number in (2, 3)
    }
    assert not (tmp_path / "drops" / "duckdb").exists()


@pytest.mark.parametrize("cores", [1, 2])
def test_drops_are_equal_to_the_byte_on_any_number_of_cores(tmp_path, monkeypatch, cores):
    samples = [kept(text(number % 7), number % 5) for number in range(60)]
    paths = [signatures_of(samples[start : start + 30], tmp_path / f"{start}.parquet", start // 30) for start in (0, 30)]
    expected = [path.read_bytes() for path in write_drops(paths, PAPER, tmp_path / "a").values()]
    monkeypatch.setattr("mm1.machine.cores", lambda: cores)
    monkeypatch.setattr("mm1.data.prepare.duplicates.BATCH", 3)
    assert [path.read_bytes() for path in write_drops(paths, PAPER, tmp_path / "b").values()] == expected


def test_signatures_of_many_samples_are_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("mm1.data.prepare.signatures.ROW_GROUP", 10)
    samples = [kept(text(number, 20), number) for number in range(25)]
    path = signatures_of(samples, tmp_path / "a.parquet")
    assert pq.read_metadata(path).num_row_groups == 3
    assert pq.read_table(path)["row"].to_pylist() == list(range(25))
    assert path.read_bytes() == signatures_of(samples, tmp_path / "b.parquet").read_bytes()


def test_too_little_memory_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("mm1.data.prepare.duplicates.MIN_MEMORY_BYTES", 1_000_000)
    monkeypatch.setattr("mm1.machine.memory_bytes", lambda: 1_000_000)
    with pytest.raises(OutOfMemory, match=r"the join of 1 files of signatures .* give the step more memory or disk"):
        drops_of(tmp_path, [kept(text(number)) for number in range(50)])


def test_a_minhash_has_the_values_of_datasketch():
    hasher = MinHasher(NearDuplicates())
    for count in (1, 2, 255, 256, 257, 1_000):
        hashes = np.random.default_rng(count).integers(0, 1 << 32, count, np.uint32)
        expected = MinHash(PERMUTATIONS, scheme=SCHEME, hashfunc=int)
        expected.update_batch(hashes.tolist())
        assert hasher.minimum(hashes).tolist() == expected.hashvalues.tolist()


def test_the_estimated_similarity_is_that_of_the_shingles():
    hasher, random = MinHasher(NearDuplicates()), np.random.default_rng(0)
    errors = []
    for edits in (0, 1, 3, 10, 40, 300):
        for seed in range(20):
            words = text(seed, 300).split()
            other = words.copy()
            for place in random.choice(300, edits, replace=False):
                other[place] = f"new{place}"
            first, second = ({*zip(*(each[start:] for start in range(5)), strict=False)} for each in (words, other))
            low, high = (hasher(Words(" ".join(each))).astype(np.uint8) for each in (words, other))
            estimate = ((low == high).mean() - EQUAL_BY_CHANCE) / (1 - EQUAL_BY_CHANCE)
            errors.append(estimate - len(first & second) / len(first | second))
    assert abs(np.mean(errors)) < 0.01 and np.sqrt(np.mean(np.square(errors))) < 0.045


def test_texts_without_spaces_are_compared_by_characters(tmp_path):
    random = np.random.default_rng(0)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 500)]
    original, other = ("".join(random.choice(letters, 300)) for _ in range(2))
    samples = [kept(each) for each in (original, other, original[:-4] + "ABC", original + "。")]
    assert [place for place, *_ in drops_of(tmp_path, samples)] == [2, 3]


def test_more_images_than_one_sample_has_are_compared_one_by_one(tmp_path):
    samples = [kept(text(seed), 10 + seed, looks=[look(seed)]) for seed in range(5)]
    samples.append(kept(changed(text(3), 2), 99, looks=[look(3)]))
    samples.append(kept(changed(text(4), 2), 98, 97, looks=[look(4), look(0)]))
    assert drops_of(tmp_path, samples, cuts=[2]) == [(5, WHOLE_SAMPLE, "near_duplicate")]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        originals = [text(seed, 100) for seed in range(20)]
        samples = [kept(each) for each in [*originals, *(changed(original, edits) for original in originals)]]
        gone[edits] = len(drops_of(tmp_path, samples, preset=preset))
    assert gone[1] >= 19 and gone[4] >= 15 and gone[30] == 0


COUNTS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 2])), max_size=3), max_size=12)


@given(pairs=COUNTS, start=st.integers(0, 3), block=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_all_images_of_two_samples_are_compared_in_order(pairs, start, block):
    """Images of both samples: the second one has the same with noise, or another one."""
    import pyarrow as pa

    earlier = [b"".join(look(seed) for seed, _ in images) for images in pairs]
    later = [b"".join(look(seed if seed else 77, noise) for seed, noise in images) for images in pairs]
    columns = [pa.array(values, pa.binary()).slice(start) for values in (earlier, later)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mm1.data.prepare.duplicates._IMAGES", block)
        similar = similar_images(*columns).tolist()
    assert similar == [all(seed for seed, _ in images) for images in pairs][start:]


@pytest.mark.parametrize("count", [0, 3])
def test_samples_without_words_have_no_near_duplicates(tmp_path, count):
    assert drops_of(tmp_path, [kept("", number) for number in range(count)]) == []
