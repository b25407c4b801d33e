"""Readers of raw formats: what they read, and what they say about damaged files."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.data.prepare.files.raw import cleaner
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.sources.formats import discover
from mm1.data.sample import ImagePart, TextPart
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import ConfigurationError, DataError
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from tests.support.mixtures import encoded_image
from tests.support.raw_files import conversation, pairs, read_all, write_img2dataset, write_llava, write_obelics, write_text

CLEAN = cleaner(SPECIAL_TOKENS)


def read(source, path):
    return list(read_all(source, LocalRoot(path), CLEAN))


@pytest.mark.parametrize(("source", "count"), [("captions", 60), ("interleaved", 24), ("text", 80), ("instructions", 37)])
def test_the_toy_world_is_read_like_any_data(source, count, tmp_path):
    path = write_part(source, tmp_path / source, WorldConfig.small())
    samples = read(source, path)
    assert len(samples) == count
    assert {sample.source for sample in samples} == {source}
    places = [[part.image for part in sample.parts if isinstance(part, ImagePart)] for sample in samples]
    assert places == [list(range(len(sample.images))) for sample in samples]
    form = {"captions": "img2dataset", "interleaved": "obelics", "text": "jsonl"}.get(source, "llava")
    assert list(discover(source, LocalRoot(path)).files) == [form]


def test_captions_of_tars_in_order_with_their_origin(tmp_path):
    write_img2dataset(tmp_path / "00001.tar", pairs(2))
    write_img2dataset(tmp_path / "00000.tar", [*pairs(2), (None, "gone")])
    samples = read("captions", tmp_path)
    assert [sample.origin for sample in samples] == [
        *("00000.tar:000000000", "00000.tar:000000001", "00000.tar:000000002"),
        *("00001.tar:000000000", "00001.tar:000000001"),
    ]
    assert samples[0].parts == [ImagePart(0), TextPart("a picture number 0")]
    assert samples[2].images == [b""]
    assert samples[0].meta["addresses"] == ["https://a.invalid/0.jpg"]


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.6])
def test_a_truncated_tar_is_named(tmp_path, keep):
    tar = write_img2dataset(tmp_path / "00000.tar", pairs(20))
    os.truncate(tar, int(tar.stat().st_size * keep))
    with pytest.raises(DataError, match=r"00000\.tar: the tar is damaged or truncated"):
        read("captions", tmp_path)


def test_a_tar_cut_between_two_members_is_noticed(tmp_path):
    tar = write_img2dataset(tmp_path / "00000.tar", [(encoded_image(0), "a" * 512)] * 3)
    data = tar.read_bytes()
    cut = data.index(b"000000002.jpg")
    tar.write_bytes(data[:cut])
    with pytest.raises(DataError, match="no end mark"):
        read("captions", tmp_path)


def test_something_else_than_a_tar_is_named(tmp_path):
    (tmp_path / "00000.tar").write_bytes(b"<html>" * 400 + bytes(512))
    with pytest.raises(DataError, match=r"00000\.tar"):
        read("captions", tmp_path)


def test_an_obelics_row_keeps_its_order(tmp_path):
    red, blue = encoded_image(1), encoded_image(2)
    for with_bytes in (True, False):
        path = write_obelics(tmp_path / str(with_bytes) / "a.parquet", [["before", red, "between", blue]], with_bytes)
        (sample,) = read("interleaved", path)
        assert sample.parts == [TextPart("before"), ImagePart(0), TextPart("between"), ImagePart(1)]
        assert sample.images == [red, blue]
        assert sample.origin == "a.parquet:1"


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_bad_parquet_is_named_with_row_and_reason(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no field texts among images \(for example a\.parquet\)"):
        read("interleaved", parquet(tmp_path / "a.parquet", images=[["x"]]))
    with pytest.raises(DataError, match=r"b\.parquet:2: expected either an image or a text at position 0"):
        read("interleaved", parquet(tmp_path / "b.parquet", images=[[None], ["x"]], texts=[["t"], ["t"]]))
    with pytest.raises(DataError, match=r"c\.parquet:1: images, texts and image_bytes differ in length"):
        read("interleaved", parquet(tmp_path / "c.parquet", images=[["x", None]], texts=[["t"]]))
    with pytest.raises(DataError, match=r"d\.parquet:1: expected a list in 'images'"):
        read("interleaved", parquet(tmp_path / "d.parquet", images=["x"], texts=[["t"]]))
    whole = write_obelics(tmp_path / "e.parquet", [["t", encoded_image(0)]] * 5)
    os.truncate(whole, whole.stat().st_size // 2)
    with pytest.raises(DataError, match=r"e\.parquet: damaged, or not a valid parquet or Arrow file"):
        read("interleaved", whole)


def test_remote_and_climbing_images_are_refused(tmp_path):
    remote = parquet(tmp_path / "a.parquet", images=[["https://x.invalid/a.jpg", None]], texts=[[None, "t"]])
    with pytest.raises(DataError, match=r"a\.parquet:1: https://x\.invalid/a\.jpg is a remote address"):
        read("interleaved", remote)
    climbing = write_llava(tmp_path / "c" / "a.json", [conversation("<image>\nwhat", "that", image="../../etc/passwd")])
    with pytest.raises(DataError, match="points outside"):
        read("instructions", climbing)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_text_in_all_its_wrappings(tmp_path, name):
    path = write_text(tmp_path / name, ["one", "two <image>"])
    assert [next(sample.texts()) for sample in read("text", path)] == ["one", "two"]
    for address in (path, tmp_path):
        assert list(discover("text", LocalRoot(address)).files) == ["parquet" if name == "a.parquet" else "jsonl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": ', r"a\.jsonl:2: the last line ends too early.*not JSON"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', r"a\.jsonl:2: not UTF-8"),
        (b'{"text": "a"}\n[1]\n', r"a\.jsonl:2: expected a JSON object"),
        (b'{"text": "a"}\n{"id": "b"}\n', r"a\.jsonl:2: expected a text in the field 'text'; the fields are id"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read("text", tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_truncated_compression_is_named(tmp_path, name):
    path = write_text(tmp_path / name, [f"text number {number * 7919}" for number in range(3000)])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=name):
        read("text", path)


def test_a_conversation_has_loss_on_answers_only(tmp_path):
    image = encoded_image(0)
    turns = ("<image>\nwhat is <|im_end|>it ?", " a ring ", "sure ?", "yes")
    path = write_llava(tmp_path / "a.json", [conversation(*turns, image="x/0.png")], {"x/0.png": image})
    (sample,) = read("instructions", path)
    assert sample.images == [image]
    assert sample.parts == [
        TextPart("<|im_start|>user\n", False),
        ImagePart(0),
        TextPart("what is it ?<|im_end|>\n", False),
        TextPart("<|im_start|>assistant\n", False),
        TextPart("a ring<|im_end|>", True),
        TextPart("\n", False),
        TextPart("<|im_start|>user\n", False),
        TextPart("sure ?<|im_end|>\n", False),
        TextPart("<|im_start|>assistant\n", False),
        TextPart("yes<|im_end|>", True),
        TextPart("\n", False),
    ]


def test_images_of_conversations_are_found_or_counted_as_missing(tmp_path):
    items = [
        conversation("what ?", "that", image="0.png"),
        conversation("<image> x", "y", image="1.png"),
        conversation("a", "b"),
    ]
    path = write_llava(tmp_path / "a.json", items, {"images/0.png": encoded_image(0)})
    first, second, third = read("instructions", path)
    assert (first.images, second.images, third.images) == ([encoded_image(0)], [b""], [])
    assert first.parts[1] == ImagePart(0)  # an image without a place stands first


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"conversations": []}, "expected a list of turns"),
        (conversation("<image><image> x", "y", image="0.png"), "2 image placeholders"),
        ({"conversations": [{"from": "cat", "value": "miaow"}]}, "got 'cat'"),
    ],
)
def test_bad_conversations_are_named(tmp_path, item, message):
    with pytest.raises(DataError, match=rf"a\.json:2: .*{message}"):
        read("instructions", write_llava(tmp_path / "a.json", [conversation("a", "b"), item]))


def test_json_that_is_no_list_is_left_out(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(ConfigurationError, match="JSON metadata"):
        read("instructions", tmp_path / "notes.json")
    with pytest.raises(DataError, match=r"JSON metadata \(for example notes\.json\)"):
        read("instructions", tmp_path)


@pytest.mark.parametrize("source", ["captions", "synthetic", "interleaved", "text", "instructions"])
def test_an_empty_folder_and_a_file_of_another_kind_are_refused(tmp_path, source):
    with pytest.raises(DataError, match="the folder is empty"):
        read(source, tmp_path)
    (tmp_path / "x.doc").write_text("x")
    with pytest.raises(ConfigurationError, match="unknown format"):
        read(source, tmp_path / "x.doc")


def test_special_tokens_are_taken_out_even_when_nested():
    assert CLEAN(" a <ima<image>ge> b ") == "a  b"
