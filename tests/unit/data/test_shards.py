"""Shards: stock readers read them, equal samples give equal bytes, the index finds every sample."""

import json
import tarfile

import pyarrow.parquet as pq
import pytest
import webdataset

from mm1.data.blocks import FileBytes
from mm1.data.config import ShardLimits
from mm1.data.reader import ShardIndex, ShardReader
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.shards import ShardWriter, write_index
from mm1.data.tokenizer import TextTokenizer, train_bpe
from mm1.errors import DataError
from mm1.store.base import digest_of_file
from tests.support.mixtures import encoded_image, make_samples


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return TextTokenizer.from_folder(train_bpe(["the red ring is on the left"], tmp_path_factory.mktemp("bpe"), 270))


def write(folder, samples, **limits):
    with ShardWriter(folder, "interleaved", ShardLimits(**limits)) as writer:
        for sample in samples:
            writer.add(sample)
    return writer.shards


def test_stock_readers_read_a_shard(tmp_path):
    samples = make_samples("interleaved", 5)
    (shard,) = write(tmp_path, samples)
    found = list(webdataset.WebDataset(str(shard.path), shardshuffle=False))
    assert [item["__key__"] for item in found] == [sample.key for sample in samples]
    for item, sample in zip(found, samples, strict=True):
        assert [item[f"{number}.png"] for number in range(len(sample.images))] == sample.images
        assert json.loads(item["json"])["source"] == "interleaved"
    with tarfile.open(shard.path) as tar:  # verifies checksums
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_equal_samples_give_equal_bytes(tmp_path, tokenizer):
    for folder in ("a", "b"):
        (shard,) = write(tmp_path / folder, make_samples("interleaved", 20))
        write_index(shard, tokenizer)
    for name in ("interleaved-00000.tar", "interleaved-00000.index.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shards_are_limited_in_samples_and_bytes(tmp_path):
    by_samples = write(tmp_path / "a", make_samples("interleaved", 10), max_samples=4)
    assert [len(shard.keys) for shard in by_samples] == [4, 4, 2]
    by_bytes = write(tmp_path / "b", make_samples("interleaved", 10), max_bytes=20_000)
    assert len(by_bytes) > 1 and sum(len(shard.keys) for shard in by_bytes) == 10


def test_index_finds_and_counts_every_sample(tmp_path, tokenizer):
    samples = make_samples("interleaved", 12)
    (shard,) = write(tmp_path, samples)
    path, num_text_tokens = write_index(shard, tokenizer)
    index = ShardIndex(path, "shard")
    reader = ShardReader("shard", FileBytes(lambda: shard.path), index)
    for row in (7, 0, 11):
        found = reader.read(row)
        assert (found.key, found.parts, found.images, found.meta) == (
            samples[row].key,
            samples[row].parts,
            samples[row].images,
            samples[row].meta,
        )
        lengths = [-1 if isinstance(part, ImagePart) else len(tokenizer.encode([part.text])[0]) for part in samples[row].parts]
        assert index.parts(row) == lengths
        assert index.num_text_tokens[row] == 1 + sum(length for length in lengths if length > 0)
        assert index.num_images[row] == len(samples[row].images)
    assert num_text_tokens == index.num_text_tokens.sum()
    assert pq.read_schema(path).names[:6] == ["key", "offset", "size", "crc32", "num_images", "num_text_tokens"]


def test_an_index_of_another_tar_is_noticed(tmp_path, tokenizer):
    (shard,) = write(tmp_path / "a", make_samples("interleaved", 6, seed=1))
    (other,) = write(tmp_path / "b", make_samples("interleaved", 6, seed=2))
    index = ShardIndex(write_index(shard, tokenizer)[0], "s")
    reader = ShardReader("shard-7", FileBytes(lambda: other.path), index)
    with pytest.raises(DataError, match=r"shard-7, row 5 \(interleaved-000000005\)"):
        reader.read(5)


def test_a_damaged_index_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="index of shard captions-00003"):
        ShardIndex(path, "captions-00003")


def test_sample_json_has_one_form():
    sample = Sample("k", "captions", [ImagePart(0), TextPart("é")], [b"x"], {"b": 1, "a": 2})
    assert sample.to_json().decode() == (
        '{"meta":{"a":2,"b":1},"parts":[{"image":0},{"loss":true,"text":"é"}],"source":"captions"}'
    )
    with pytest.raises(DataError, match="missing image"):
        Sample.from_json("k", sample.to_json(), [])
    with pytest.raises(DataError, match="sample k"):
        Sample.from_json("k", b"[]")


def test_formats_of_images_are_told_by_their_bytes(tmp_path):
    images = [encoded_image(0, image_format=name) for name in ("PNG", "JPEG", "WEBP")]
    (shard,) = write(tmp_path, [Sample("k", "interleaved", [ImagePart(i) for i in range(3)], images)])
    with tarfile.open(shard.path) as tar:
        assert tar.getnames() == ["k.json", "k.0.png", "k.1.jpg", "k.2.webp"]


def test_an_index_that_names_another_tar_is_refused_when_it_is_opened(tmp_path, tokenizer):
    (shard,) = write(tmp_path / "a", make_samples("captions", 6))
    (other,) = write(tmp_path / "b", make_samples("captions", 7))
    path, _ = write_index(shard, tokenizer)
    assert len(ShardIndex(path, "shard-1", digest_of_file(shard.path))) == 6
    with pytest.raises(DataError, match="shard-1 belongs to another tar"):
        ShardIndex(path, "shard-1", digest_of_file(other.path))


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path, tokenizer):
    (shard,) = write(tmp_path / "a", make_samples("captions", 6))
    path, _ = write_index(shard, tokenizer)
    data = bytearray(shard.path.read_bytes())
    place = shard.offsets[3] + shard.sizes[3] // 2
    data[place] ^= 1
    shard.path.write_bytes(data)
    reader = ShardReader("shard-2", FileBytes(lambda: shard.path), ShardIndex(path, "shard-2"))
    assert reader.read(2).key == shard.keys[2]
    with pytest.raises(DataError, match=r"shard-2, row 3 .*checksum"):
        reader.read(3)
