"""Parts that deduplication empties, whole or in part: duplicates, near duplicates, repeated images."""

import tarfile
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.config import PRESETS, NearDuplicates, ShardLimits
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.merge import check_sources, collect, merge_parts
from mm1.data.prepare.pipeline import FilterSettings, filter_part, shard_part
from mm1.data.prepare.sources.formats import discover
from mm1.data.shards import read_samples, scan_tar
from mm1.data.tokenizer import train_bpe
from mm1.errors import DataError
from mm1.manifests import PlannedSource, RawPart
from mm1.store.local import LocalStore
from tests.support.mixtures import encoded_image
from tests.support.raw_files import write_obelics, write_text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_bpe(["words of a text"] * 20, tmp_path_factory.mktemp("tokenizer"), 300)


def raw_data(source, folder, tokenizer, limits=None):
    """One part per file, through all of ingest: the RawData and the samples that are left in each part."""
    root, store = LocalRoot(folder / "raw"), LocalStore(folder / "store")
    found = discover(source, root)
    files = [(form, file) for form, some in found.files.items() for file in some]
    parts = [RawPart(source=source, number=n, format=form, files=(file,)) for n, (form, file) in enumerate(files)]
    planned = PlannedSource(num_files=len(files), num_bytes=0)
    how = FilterSettings("toy", ("<image>",), limits=limits)
    filtered = [filter_part(store, part, root, how, folder / "work") for part in parts]
    merged = merge_parts(store, filtered, tokenizer, None, folder / "work")
    sharded = [shard_part(store, merged, part, folder / "work", limits) for part in filtered]
    left = [
        [sample for shard in part.shards for sample in read_samples(scan_tar(store.local_path(shard.tar)))] for part in sharded
    ]
    return collect({source: planned}, merged, filtered, sharded).sources[source], left


def text(number):
    return f"text number {number} of this file has a few words, among them {number * 7919} and {number * 104729}"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=4).filter(lambda parts: any(parts)))
def test_every_mix_of_full_and_empty_parts(tmp_path_factory, tokenizer, parts):
    folder = tmp_path_factory.mktemp("raw")
    for number, rows in enumerate(parts):
        write_text(folder / "raw" / f"{number}.jsonl", [text(row) for row in rows])
    source, left = raw_data("text", folder, tokenizer, ShardLimits(max_samples=2))
    rows = [row for part in parts for row in part]
    assert [next(sample.texts()) for part in left for sample in part] == [text(row) for row in dict.fromkeys(rows)]
    assert source.dropped == Counter({"duplicate": len(rows) - len(set(rows))}) - Counter()
    assert source.num_samples + source.dropped.get("duplicate", 0) == source.num_read
    assert all(shard.num_samples for shard in source.shards)


@pytest.fixture
def near(monkeypatch):
    toy = PRESETS["toy"]
    monkeypatch.setitem(
        PRESETS, "toy", toy.model_copy(update={"text": toy.text.model_copy(update={"near_duplicates": NearDuplicates()})})
    )


def test_a_part_of_near_duplicates(tmp_path, tokenizer, near):
    words = " ".join(f"word{number}" for number in range(80))
    for number, end in enumerate(["first", "second", "third"]):
        write_text(tmp_path / "raw" / f"{number}.jsonl", [f"{words} {end}"])
    source, left = raw_data("text", tmp_path, tokenizer)
    assert (source.num_samples, source.dropped, [len(part) for part in left]) == (1, {"near_duplicate": 2}, [1, 0, 0])
    assert [example.partition(":")[0] for example in source.examples["near_duplicate"]] == ["1.jsonl", "2.jsonl"]


@pytest.fixture
def repeats(monkeypatch):
    toy = PRESETS["toy"]
    image = toy.interleaved.image.model_copy(update={"max_repeats": 2})
    monkeypatch.setitem(
        PRESETS, "toy", toy.model_copy(update={"interleaved": toy.interleaved.model_copy(update={"image": image})})
    )


def test_a_part_of_repeated_images(tmp_path, tokenizer, repeats):
    everywhere = encoded_image(0, 40)
    write_obelics(tmp_path / "raw" / "0.parquet", [[everywhere, text(number)] for number in range(3)])
    write_obelics(tmp_path / "raw" / "1.parquet", [[encoded_image(1, 40), text(9)]])
    source, left = raw_data("interleaved", tmp_path, tokenizer)
    assert (source.num_samples, source.dropped) == (1, {"no_images": 3}) and source.removed == {"image_repeated": 3}
    assert [len(part) for part in left] == [0, 1]


def test_a_source_of_which_nothing_is_left(tmp_path, tokenizer, repeats):
    everywhere = encoded_image(0, 40)
    for number in range(3):
        write_obelics(tmp_path / "raw" / f"{number}.parquet", [[everywhere, text(number)]])
    with pytest.raises(DataError, match=r"no samples are left after deduplication: no_images 3 \(for example 0.parquet:1\)"):
        raw_data("interleaved", tmp_path, tokenizer)


def test_a_source_without_samples_says_what_its_files_hold(tmp_path):
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw" / "0.tar", "w") as tar:
        for name in ("inner.tar", "x.npy"):
            tar.addfile(tarfile.TarInfo(name))
    root = LocalRoot(tmp_path / "raw")
    part = RawPart(source="captions", number=0, format="img2dataset", files=tuple(root.list()))
    filtered = filter_part(LocalStore(tmp_path / "store"), part, root, FilterSettings("toy", ()), tmp_path / "work")
    with pytest.raises(DataError, match=r"no samples: not read: neither image nor caption 2 \(for example 0.tar:inner.tar\)"):
        check_sources([filtered])


def test_a_source_of_pages_without_images_says_why_they_have_none(tmp_path):
    write_obelics(tmp_path / "raw" / "0.parquet", [[b"", text(number)] for number in range(3)])
    root = LocalRoot(tmp_path / "raw")
    part = RawPart(source="interleaved", number=0, format="obelics", files=tuple(root.list()))
    filtered = filter_part(LocalStore(tmp_path / "store"), part, root, FilterSettings("toy", ()), tmp_path / "work")
    with pytest.raises(DataError, match=r"no_images 3 \(.*\); removed from documents: missing_image 3 \("):
        check_sources([filtered])


def test_the_share_of_samples_in_other_languages_is_a_feature(tmp_path, tokenizer):
    chinese = "这座城市位于河边,以其古老的市场而闻名。"
    write_text(tmp_path / "raw" / "0.jsonl", ["this is a text that was written in English", chinese])
    source, _ = raw_data("text", tmp_path, tokenizer)
    assert source.shards[0].features["other_language_share"] == source.shards[0].features["english_share"] == 0.5
