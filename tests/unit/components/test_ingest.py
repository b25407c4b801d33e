"""Step ingest as a process would run it: what it publishes, that it is reproducible, what it says about bad input."""

import json
import logging
import os

import pytest

from mm1.data.reader import ShardIndex
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import Outcome
from mm1.manifests import RawData, load
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from mm1_components.ingest import STEP
from mm1_components.ingest_filter import STEP as INGEST_FILTER
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from mm1_components.wrapper.raw_data import preset_of
from tests.support.raw_files import pairs, write_img2dataset, write_obelics, write_text

SOURCES = ("captions", "interleaved", "text", "instructions")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return {name: str(write_part(name, folder / name, WorldConfig.small())) for name in SOURCES}


@pytest.fixture
def ingest(tmp_path, caplog):
    """Runs the step; gives its outcome, its manifest (if any) and what it logged."""

    def run(store="store", **inputs):
        out = tmp_path / "out"
        out.unlink(missing_ok=True)
        options = [f"--{name}={value}" for name, value in ({"preset": "toy", "vocabulary": 400} | inputs).items()]
        places = [
            "--store",
            str(tmp_path / store),
            "--out.manifest",
            str(out),
            "--artifact.summary.md",
            str(tmp_path / "summary.md"),
        ]
        caplog.clear()
        with caplog.at_level(logging.INFO):
            outcome = execute(STEP, build_parser(STEP).parse_args([*options, *places]))
        return outcome, out.read_text() if out.exists() else "", caplog.text

    return run


def test_all_sources_of_the_toy_world(ingest, world, tmp_path):
    outcome, uri, _ = ingest(**world)
    assert outcome is Outcome.DONE
    raw = load(uri, RawData)
    store = open_store(str(tmp_path / "store"))
    assert set(raw.sources) == set(SOURCES)
    for name, count in zip(SOURCES, (60, 24, 80, 37), strict=True):
        source = raw.sources[name]
        assert source.num_read == count == source.num_samples + sum(source.dropped.values())
        for shard in source.shards:
            index = ShardIndex(store.local_path(shard.index), shard.name)
            assert (len(index), index.num_images.sum(), index.num_text_tokens.sum()) == (
                shard.num_samples,
                shard.num_images,
                shard.num_text_tokens,
            )
    assert TextTokenizer.from_store(store, raw.tokenizer).eos_id == 0
    summary = (tmp_path / "summary.md").read_text()
    assert "| interleaved | obelics | 2 | 24 |" in summary


def test_the_same_work_has_the_same_digest_in_any_store_and_order_of_processes(ingest, world, monkeypatch):
    _, first, _ = ingest("a", **world)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})  # one core: no processes
    _, second, _ = ingest("b", **world)
    assert first.rpartition("/")[2] == second.rpartition("/")[2]
    _, third, log = ingest("b", **world)
    assert third == second and "cached" in log


def test_a_tokenizer_is_taken_over_from_data_and_from_a_folder(ingest, world, tmp_path):
    _, first, _ = ingest(text=world["text"])
    _, second, _ = ingest(instructions=world["instructions"], tokenizer=first)
    before, after = load(first, RawData), load(second, RawData)
    assert after.parents == (first.rpartition("/")[2].removesuffix(".json"),)
    assert after.tokenizer == before.tokenizer
    folder = open_store(str(tmp_path / "store")).get_folder(dict(before.tokenizer), tmp_path / "folder")
    _, third, _ = ingest(instructions=world["instructions"], tokenizer=folder)
    assert load(third, RawData).tokenizer == before.tokenizer


def test_some_unreadable_images_are_dropped_and_counted(ingest, tmp_path):
    items = pairs(20)
    items[3] = (items[3][0][:200], "damaged")
    items[7] = (None, "gone")
    write_img2dataset(tmp_path / "raw" / "00000.tar", items)
    _, uri, _ = ingest(captions=tmp_path / "raw")
    assert load(uri, RawData).sources["captions"].dropped == {"missing_image": 1, "unreadable_image": 1}
    assert "00000.tar:000000003" in (tmp_path / "summary.md").read_text()


def bad_inputs(folder):
    truncated = write_img2dataset(folder / "truncated" / "00000.tar", pairs(10))
    os.truncate(truncated, 4000)
    write_img2dataset(folder / "unreadable" / "00000.tar", [(b"no image", "x"), (b"nor this", "y")])
    write_text(folder / "notext" / "a.jsonl", [])
    write_obelics(folder / "parquet" / "a.parquet", [])
    (folder / "empty").mkdir()
    return {
        "truncated": ("captions", Outcome.DATA, "00000.tar"),
        "unreadable": ("captions", Outcome.DATA, "none of the 2 samples"),
        "notext": ("text", Outcome.DATA, "empty file (for example a.jsonl)"),
        "parquet": ("text", Outcome.DATA, "no field text"),
        "empty": ("captions", Outcome.DATA, "the folder is empty"),
        "nowhere": ("captions", Outcome.CONFIGURATION, "no such file or folder"),
    }


@pytest.mark.parametrize("case", ["truncated", "unreadable", "notext", "parquet", "empty", "nowhere"])
def test_bad_input_ends_in_its_class_and_leaves_nothing_half_visible(ingest, tmp_path, case):
    source, wanted, message = bad_inputs(tmp_path)[case]
    outcome, uri, log = ingest(**{source: tmp_path / case})
    assert (outcome, uri) == (wanted, "")
    assert message in log
    store = open_store(str(tmp_path / "store"))
    kinds = {json.loads(store.read(key))["kind"] for key in store.list("manifests/")}
    assert kinds <= {"FilteredPart"}  # finished parts are remembered, data are not there


def test_a_bad_source_beside_good_ones_ends_the_step(ingest, world, tmp_path):
    bad_inputs(tmp_path)
    outcome, _, log = ingest(text=world["text"], interleaved=world["interleaved"], captions=tmp_path / "truncated")
    assert outcome is Outcome.DATA and "00000.tar" in log


def test_bad_settings_are_refused(ingest, world):
    for inputs, message in (
        ({}, "nothing to ingest"),
        ({"text": world["text"], "preset": "papre"}, "did you mean 'paper'"),
        ({"text": world["text"], "tokenizer": world["text"]}, "tokenizer.json"),
        ({"text": world["text"], "vocabulary": 100}, "vocabulary"),
    ):
        outcome, _, log = ingest(**inputs)
        assert outcome is Outcome.CONFIGURATION and message in log


def test_without_a_preset_real_data_get_the_papers_filters_and_the_toy_world_its_own(ingest, tmp_path):
    assert [preset_of("auto", address) for address in ("world:3", "/data", "s3://bucket/x", "file:///a", "world")] == [
        "toy",
        *["paper"] * 4,
    ]
    assert preset_of("toy", "/data") == "toy" and preset_of("obelics", "world:0") == "obelics"
    sentence = "the {} is in the house and this is what it was like at the time of the {}"
    write_text(tmp_path / "a.jsonl", [sentence.format(word, word * 2) for word in ("cat", "dog")] + ["too short"])
    _, uri, log = ingest(text=tmp_path / "a.jsonl", preset="auto")
    source = load(uri, RawData).sources["text"]
    assert (source.preset, source.num_samples) == ("paper", 2) and "text: filter preset paper" in log
    for step in (STEP, INGEST_FILTER):
        assert step.inputs.model_fields["preset"].default == "auto"


def test_world_addresses_and_reserved_words(ingest, tmp_path):
    write_text(tmp_path / "a.jsonl", ["a text with <image> in it", "another one"])
    _, uri, _ = ingest(text=tmp_path / "a.jsonl")
    store = open_store(str(tmp_path / "store"))
    (shard,) = load(uri, RawData).sources["text"].shards
    content = store.get_bytes(shard.tar)
    assert b"<image>" not in content and b"a text with  in it" in content
    record = json.loads(store.read("runs/manual/ingest.json"))
    assert record["facts"]["samples"] == {"text": 2}


def test_what_was_not_fetched_is_reported_by_reason(ingest, tmp_path, monkeypatch):
    monkeypatch.setattr("mm1.machine.cores", lambda: 1)
    rows = [f"http://127.0.0.1:9/{number}.jpg,a caption\n" for number in range(3)]
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "a.csv").write_text("url,caption\n" + "".join(rows))
    outcome, _, log = ingest(captions=tmp_path / "captions", remote="fetch")
    assert outcome is Outcome.DATA
    assert "images fetched 0, failed 3 (not a public address 3)" in log
