"""The files of the toy world: reproducible, atomic, and readable by the ordinary readers of their formats."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset as wds
from PIL import Image

from mm1.errors import ConfigurationError
from mm1.world import captions
from mm1.world.__main__ import main
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("part", PARTS)
def test_same_configuration_same_bytes(part: str, world: Path, tmp_path: Path) -> None:
    write_part(part, tmp_path / "again", WorldConfig.small())
    assert digests(tmp_path / "again") == digests(world / part)


@pytest.mark.parametrize("part", PARTS)
def test_another_seed_gives_another_world(part: str, world: Path, tmp_path: Path) -> None:
    write_part(part, tmp_path / "other", WorldConfig.small(seed=1))
    assert digests(tmp_path / "other") != digests(world / part)


def test_parts_do_not_depend_on_each_other(world: Path, tmp_path: Path) -> None:
    changed = WorldConfig.small().model_copy(update={"num_texts": 3, "num_interleaved": 2})
    write_part("captions", tmp_path / "captions", changed)
    before, after = digests(world / "captions"), digests(tmp_path / "captions")
    del before["world.json"], after["world.json"]
    assert before == after


def test_unknown_part_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown part 'videos'.*captions"):
        write_part("videos", tmp_path / "x", WorldConfig.small())
    assert not list(tmp_path.iterdir())


def test_a_folder_with_content_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(ConfigurationError, match="is not empty"):
        write_part("text", tmp_path, WorldConfig.small())
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(captions, "write_shard", no_space)
    with pytest.raises(OSError, match="No space"):
        write_part("captions", tmp_path / "captions", WorldConfig.small())
    assert not list(tmp_path.iterdir())


def test_captions_read_as_webdataset(world: Path) -> None:
    config = WorldConfig.small()
    shards = sorted(str(path) for path in (world / "captions").glob("*.tar"))
    assert len(shards) == 2
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert len(samples) == config.num_captions
    for sample in samples:
        assert sample["jpg"].size == (config.image_size_px, config.image_size_px)
        assert sample["json"]["caption"] == sample["txt"]
        assert sample["json"]["key"] == sample["__key__"]
        assert sample["json"]["status"] == "success"
    table = pq.read_table(world / "captions" / "00000.parquet")
    assert table["caption"].to_pylist() == [sample["txt"] for sample in samples[: config.captions_per_shard]]
    stats = json.loads((world / "captions" / "00001_stats.json").read_text())
    assert stats["successes"] == config.num_captions - config.captions_per_shard


def test_interleaved_rows_have_obelics_form(world: Path) -> None:
    config = WorldConfig.small()
    rows = [row for path in sorted((world / "interleaved").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == config.num_interleaved
    for row in rows:
        assert len(row["images"]) == len(row["texts"]) == len(row["image_bytes"]) == len(json.loads(row["metadata"]))
        for name, text, content in zip(row["images"], row["texts"], row["image_bytes"], strict=True):
            assert (name is None) != (text is None)
            assert (content is None) == (name is None)
        assert json.loads(row["general_metadata"])["url"]
        tokens = 1 + sum(len(text.split()) if text else config.tokens_per_image for text in row["texts"])
        assert tokens <= config.tokens_per_document
        first = next(content for content in row["image_bytes"] if content)
        assert Image.open(io.BytesIO(first)).format == "JPEG"


@pytest.mark.parametrize("part", ["instructions", "reading", "grounding", "marks"])
def test_conversations_have_llava_form(part: str, world: Path) -> None:
    items = json.loads((world / part / "llava_instruct.json").read_text())
    shown = []
    for item in items:
        turns = item["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        names = [item["image"]] if isinstance(item.get("image"), str) else item.get("image", [])
        assert sum(turn["value"].count("<image>\n") for turn in turns[::2]) == len(names)
        assert not any("<image>" in turn["value"] for turn in turns[1::2])
        shown += names
    for name in shown:
        Image.open(world / part / name).verify()
    assert (part == "marks") == (max(len(item["conversations"]) for item in items) == 2)
    assert {path.name for path in (world / part / "images").iterdir()} == {Path(name).name for name in shown}


def test_instructions_have_no_image_one_or_several(world: Path) -> None:
    items = json.loads((world / "instructions" / "llava_instruct.json").read_text())
    counts = [len(image) if isinstance(image := item.get("image", []), list) else 1 for item in items]
    assert set(counts) == {0, 1, 2, 3}
    assert counts[: WorldConfig.small().num_instructions].count(1) > 20
    assert sum(count > 1 for count in counts) == len(items) - WorldConfig.small().num_instructions == 5


def test_the_command_line_writes_all_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--small"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PARTS)
    assert main(["--out", str(tmp_path), "--small", "--part", "text"]) == 80
    assert "is not empty" in capsys.readouterr().err


def test_synthetic_captions_are_a_part_of_their_own(world: Path) -> None:
    rows = pq.read_table(world / "synthetic" / "00000.parquet").to_pylist()
    assert len(rows) == WorldConfig.small().num_synthetic
    assert {row["caption_kind"] for row in rows} == {"synthetic"}
    others = pq.read_table(world / "web_captions" / "00000.parquet").to_pylist()
    assert {row["caption_kind"] for row in others} == {"alt", "qa"}
    assert not {row["sha256"] for row in rows} & {row["sha256"] for row in others}
