"""Ingest by many: the same data to the byte by one process, by two, and by the steps of many machines; killed, gone on with."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mm1_components.ingest as ingest_module
from mm1.data.config import PRESETS
from mm1.data.features.rows import read_rows
from mm1.data.prepare import pipeline
from mm1.errors import ConfigurationError, Outcome
from mm1.manifests import RawData, ShardedParts, load
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from mm1_components import ingest_collect, ingest_filter, ingest_merge, ingest_plan, ingest_shard
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from mm1_components.wrapper.raw_data import manifests_of
from tests.support.mixtures import encoded_image
from tests.support.raw_files import write_img2dataset, write_text
from tests.support.s3_server import s3_server
from tests.support.waiting import wait_for_end, wait_until

SETTINGS = {"preset": "toy", "vocabulary": 400}
PART = 40_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Several files of each source, with samples that stand in two of them."""
    folder = tmp_path_factory.mktemp("raw")
    images = [encoded_image(number, 40, "JPEG") for number in range(12)]
    for shard in range(4):
        items = [(images[number], f"a picture number {number} of shard {shard}") for number in range(12)]
        write_img2dataset(folder / "captions" / f"{shard:05d}.tar", [*items, (images[3], "everywhere")])
        texts = [f"text {number} of file {shard} says nothing at all" for number in range(60)]
        write_text(folder / "text" / f"{shard}.jsonl", [*texts, "the same text in every file"])
    write_part("interleaved", folder / "interleaved", WorldConfig.small())
    return {name: str(folder / name) for name in ("captions", "text", "interleaved")}


def run(step, store, folder, outputs=("manifest",), options=(), **inputs):
    folder.mkdir(parents=True, exist_ok=True)
    values = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    places = [f"--store={store}", *(f"--out.{name}={folder / name}" for name in outputs)]
    places += [f"--artifact.{name}={folder / name}" for name in step.artifacts]
    outcome = execute(step, build_parser(step).parse_args([*options, *values, *places]))
    return outcome, [(folder / name).read_text() for name in outputs] if outcome is Outcome.DONE else []


def ingest(store, folder, raw, **inputs):
    return run(ingest_module.STEP, store, folder, **(SETTINGS | {"part_bytes": PART} | raw | inputs))


def by_steps(store, folder, raw, mapped=lambda batches: batches):
    """As a pipeline engine would run them; ``mapped`` reorders what the loops give back."""
    _, (plan, batches) = run(ingest_plan.STEP, store, folder, ("manifest", "batches"), **raw, part_bytes=PART)
    batches = mapped(json.loads(batches))
    filtered = [run(ingest_filter.STEP, store, folder, plan=plan, batch=batch, preset="toy", **raw)[1][0] for batch in batches]
    _, (merged,) = run(ingest_merge.STEP, store, folder, batches=json.dumps(filtered), vocabulary=400)
    sharded = [run(ingest_shard.STEP, store, folder, merged=merged, batch=batch)[1][0] for batch in batches]
    _, (uri,) = run(ingest_collect.STEP, store, folder, plan=plan, merged=merged, batches=json.dumps(sharded))
    return uri


def digest(uri):
    return uri.rpartition("/")[2]


def test_one_process_two_processes_and_steps_give_the_same_bytes(raw, tmp_path, monkeypatch):
    _, (two,) = ingest(tmp_path / "two", tmp_path / "a", raw)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    _, (one,) = ingest(tmp_path / "one", tmp_path / "b", raw)
    steps = by_steps(tmp_path / "steps", tmp_path / "c", raw, mapped=lambda batches: batches[::-1])
    assert digest(one) == digest(two) == digest(steps)
    data = load(steps, RawData)
    assert len({shard.name.rpartition("-")[0] for shard in data.sources["captions"].shards}) > 1  # several parts
    assert data.sources["captions"].dropped == {"duplicate": 3}
    assert data.sources["text"].dropped == {"duplicate": 3}
    assert "00001.tar:000000012" in " ".join(data.sources["captions"].examples["duplicate"])
    stores = [open_store(str(tmp_path / name)) for name in ("one", "two", "steps")]
    tars = [[store.get_bytes(shard.tar) for shard in data.sources["text"].shards] for store in stores]
    assert tars[0] == tars[1] == tars[2]
    assert "| captions | duplicate | 3 |" in (tmp_path / "c" / "summary.md").read_text()
    assert "Filter preset `toy`" in (tmp_path / "c" / "summary.md").read_text()


def test_shards_are_told_to_the_feature_store(raw, tmp_path):
    _, (uri,) = ingest(tmp_path / "store", tmp_path / "a", raw)
    store = open_store(str(tmp_path / "store"))
    rows = {row["shard"]: row for row in read_rows(store, "shard_stats").to_pylist()}
    quality = {row["shard"]: row["quality"] for row in read_rows(store, "shard_quality").to_pylist()}
    for source in load(uri, RawData).sources.values():
        for shard in source.shards:
            assert rows[shard.tar.sha256]["num_samples"] == shard.num_samples
            assert quality[shard.tar.sha256] == shard.features["quality"]
    captions = load(uri, RawData).sources["captions"].shards[0]
    assert captions.features["mean_image_side_px"] == 40
    assert captions.features["mean_caption_words"] == pytest.approx(6.7, abs=0.6)


def test_a_new_file_costs_its_own_part_only(raw, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    folder = tmp_path / "text"
    for number in range(3):
        write_text(folder / f"{number}.jsonl", [f"text {number} {line} is here" for line in range(700)])
    inputs = {"text": str(folder)}
    by_steps(tmp_path / "store", tmp_path / "a", inputs)
    write_text(folder / "3.jsonl", [f"text 3 {line} is here" for line in range(700)])
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        by_steps(tmp_path / "store", tmp_path / "a", inputs)
    assert caplog.text.count("passed the filters") == 1


@pytest.mark.parametrize("lost", ["blobs", "some blobs", "manifests", "entries cut"])
@pytest.mark.parametrize("options", [[], ["--no-cache"]], ids=["cached", "no cache"])
def test_what_the_store_lost_is_made_again(raw, tmp_path, lost, options):
    store = tmp_path / "store"
    inputs = SETTINGS | {"part_bytes": PART, "text": raw["text"]}
    _, first = run(ingest_module.STEP, str(store), tmp_path / "a", **inputs)
    before = {path: path.read_bytes() for path in (store / "blobs").rglob("*") if path.is_file()}
    if lost == "entries cut":
        for path in (store / "cache").rglob("*.json"):
            path.write_bytes(path.read_bytes()[:20])
    elif lost == "some blobs":
        for path in sorted(before)[::3]:
            path.unlink()
    else:
        shutil.rmtree(store / lost)
    _, again = run(ingest_module.STEP, str(store), tmp_path / "b", options=options, **inputs)
    assert again == first
    assert {path: path.read_bytes() for path in (store / "blobs").rglob("*") if path.is_file()} == before


def test_no_cache_relies_on_no_remembered_part(raw, tmp_path, monkeypatch):
    store, made = str(tmp_path / "store"), []
    inputs = SETTINGS | {"part_bytes": PART, "text": raw["text"]}
    make = pipeline.filter_part
    monkeypatch.setattr("mm1.machine.cores", lambda: 1)
    monkeypatch.setattr(pipeline, "filter_part", lambda *rest: made.append(1) or make(*rest))
    counts = []
    for options in ([], ["--no-cache"], []):
        run(ingest_module.STEP, store, tmp_path / "a", options=options, **inputs)
        counts.append(len(made))
    assert counts == [counts[0], 2 * counts[0], 2 * counts[0]]


def test_a_bucket_gives_the_data_of_a_folder_and_is_cached_by_what_is_in_it(raw, tmp_path, monkeypatch, caplog):
    from mm1.store.s3 import S3Store

    with s3_server(monkeypatch, "raw") as uri:
        bucket = S3Store(uri)
        for path in Path(raw["captions"]).iterdir():
            bucket.write_file(f"cc/{path.name}", path)
        _, (local,) = ingest(tmp_path / "a", tmp_path / "a-out", {"captions": raw["captions"]})
        _, (remote,) = ingest(tmp_path / "b", tmp_path / "b-out", {"captions": f"{uri}/cc"})
        assert digest(local) == digest(remote)
        with caplog.at_level(logging.INFO):
            ingest(tmp_path / "b", tmp_path / "b-out", {"captions": f"{uri}/cc"})
            assert "ingest: cached" in caplog.text
            bucket.delete("cc/00003.tar")
            _, (less,) = ingest(tmp_path / "b", tmp_path / "b-out", {"captions": f"{uri}/cc"})
        assert digest(less) != digest(remote)
        outcome, _ = ingest(tmp_path / "b", tmp_path / "b-out", {"captions": f"{uri}/nothing"})
        assert outcome is Outcome.CONFIGURATION


def test_a_source_of_several_addresses_in_a_folder_a_bucket_and_through_links(raw, tmp_path, monkeypatch):
    disk, text = tmp_path / "disk", tmp_path / os.fsdecode(b"t\xe9xt")
    write_text(
        disk / "one" / os.fsdecode(b"caf\xe9.jsonl"), [f"a text {number} that is read by its true name" for number in range(30)]
    )
    write_text(disk / "one" / r"caf\xe9.jsonl", [f"another text {number} whose name has a backslash" for number in range(30)])
    text.mkdir()
    (text / "linked").symlink_to(disk / "one")
    (text / "loop").symlink_to(".")
    with s3_server(monkeypatch, "raw"):
        bucket = open_store("s3://raw")
        for file in sorted(Path(raw["captions"]).iterdir()):
            bucket.write_file(f"cc/{file.name}", file)
        addresses = {
            "captions": f"s3://raw/cc/{{00000..00001}}.tar, {raw['captions']}/0000[23].tar",
            "text": json.dumps([str(text), f"{raw['text']}/0.jsonl"]),
        }
        _, (uri,) = ingest(tmp_path / "one", tmp_path / "a", addresses)
        steps = by_steps(tmp_path / "steps", tmp_path / "b", addresses)
    assert digest(uri) == digest(steps)
    sources = load(uri, RawData, open_store(str(tmp_path / "one"))).sources
    assert sources["captions"].num_read == 4 * 13 and sources["text"].num_read == 2 * 30 + 61
    assert sources["captions"].dropped == {"duplicate": 4 * 13 - 4 * 12 - 1}


def test_data_that_exist_are_passed_through(raw, tmp_path):
    _, (uri,) = ingest(tmp_path / "store", tmp_path / "a", {"text": raw["text"]})
    outcome, (again,) = run(ingest_module.STEP, tmp_path / "store", tmp_path / "b", data=uri)
    assert (outcome, again) == (Outcome.DONE, uri)


def test_images_that_are_everywhere_leave_their_documents(tmp_path, monkeypatch):
    everywhere = encoded_image(99, 40)
    from tests.support.raw_files import write_obelics

    toy = PRESETS["toy"]
    image = toy.interleaved.image.model_copy(update={"max_repeats": 3})
    interleaved = toy.interleaved.model_copy(update={"image": image})
    monkeypatch.setitem(PRESETS, "toy", toy.model_copy(update={"interleaved": interleaved}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    documents = [[everywhere, encoded_image(number, 40), f"this is document number {number}"] for number in range(5)]
    write_obelics(tmp_path / "raw" / "a.parquet", [*documents, [everywhere, "only the image that is everywhere"]])
    outcome, (uri,) = ingest(tmp_path / "store", tmp_path / "a", {"interleaved": str(tmp_path / "raw")})
    assert outcome is Outcome.DONE
    source = load(uri, RawData).sources["interleaved"]
    assert (source.removed, source.dropped) == ({"image_repeated": 6}, {"no_images": 1})
    assert (source.num_samples, source.num_images) == (5, 5)


COMMAND = """
import os, sys
sys.path[:0] = {path!r}
import mm1.data.prepare.pipeline as made
real = made.filter_part
def slow(store, part, *rest):
    print("part", part.number, os.getpid(), flush=True)
    if part.number == {stop}:
        if {die!r}:
            os.kill(os.getpid(), 9)
        import time; time.sleep(60)
    return real(store, part, *rest)
made.filter_part = slow
from mm1 import machine
machine.cores = lambda: 2
from mm1_components.ingest import STEP
from mm1_components.wrapper.execute import main
main(STEP, sys.argv[1:])
"""


def started(tmp_path, raw, *, stop, die):
    program = COMMAND.format(path=[str(Path.cwd()), *sys.path], stop=stop, die=die)
    options = [f"--captions={raw['captions']}", "--preset=toy", "--vocabulary=400", f"--part-bytes={PART}"]
    options += [f"--store={tmp_path / 'store'}", f"--out.manifest={tmp_path / 'out'}", f"--work={tmp_path / 'work'}"]
    words = [sys.executable, "-c", program, *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_started_again_it_does_only_what_is_missing(raw, tmp_path):
    first = started(tmp_path, raw, stop=3, die=False)
    seen = [first.stdout.readline().split() for _ in range(4)]
    remembered = tmp_path / "store" / "cache" / "ingest_parts"
    wait_until(lambda: len([*remembered.glob("*.json")]) == 3, "the other parts")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_for_end({int(pid) for *_, pid in seen}, "the processes of ingest, as it has ended")
    assert not (tmp_path / "out").exists()
    again = started(tmp_path, raw, stop=-1, die=False)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert [line.split()[1] for line in out.splitlines() if line.startswith("part")] == ["3"]
    assert load((tmp_path / "out").read_text(), RawData).sources["captions"].dropped == {"duplicate": 3}


def test_a_process_that_is_killed_ends_the_step_with_the_class_of_memory(raw, tmp_path):
    ended = started(tmp_path, raw, stop=2, die=True)
    _, err = ended.communicate(timeout=120)
    assert ended.returncode == Outcome.OUT_OF_MEMORY
    assert "a worker process of ingest was killed" in err and "run the same command again" in err


@pytest.mark.parametrize("text", ["[", "[1]", '[["a"]]', "[" * 100_000], ids=lambda text: text[:8])
def test_a_list_of_parts_that_cannot_be_read(text):
    with pytest.raises(ConfigurationError, match="parts: expected a JSON list of addresses") as caught:
        manifests_of(None, text, ShardedParts, "parts")
    assert len(str(caught.value)) < 250
