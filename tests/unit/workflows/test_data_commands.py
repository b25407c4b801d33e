"""mm1 data stats, show, score: figures, a page, later scores, and clear errors."""

import csv
import json

import pytest

from mm1.data.features.rows import push_raw, read_rows
from mm1.data.features.snapshot import parse_time
from mm1.data.sample import TextPart
from mm1.manifests import Deployment, digest_of_manifest
from mm1.store.base import blob_key
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1_workflows.cli import main
from tests.support.mixtures import build_mix, make_samples
from tests.support.stored_runs import record


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data-commands")
    store = LocalStore(folder / "store")
    samples = {name: make_samples(name, 30) for name in ("captions", "interleaved", "text")}
    samples["text"] = [sample for sample in samples["text"]]
    for sample in samples["text"]:
        sample.parts = [TextPart("<b>bold</b> & " + sample.parts[0].text)]
    return store, *build_mix(store, folder, weights={"captions": 0.45, "interleaved": 0.45, "text": 0.1}, samples=samples)


def run(*words):
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([*map(str, words)]))
    return ended.value.code or 0


def test_stats_say_what_a_mixture_is(mixture, capsys):
    store, raw, mix = mixture
    assert run("data", "stats", digest_of_manifest(mix)[:12], "--store", store.uri) == 0
    text = capsys.readouterr().out
    assert "Mixture" in text and "interleaved" in text and "0.450" in text and "weights by sequence" in text
    assert run("data", "stats", f"{store.uri}/manifests/{digest_of_manifest(raw)}.json", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["mixture"] is None and tree["data"]["text"]["num_read"] == 30


def test_shards_are_listed_with_the_names_that_scores_take(mixture, capsys):
    store, raw, mix = mixture
    shards = [(name, shard) for name, source in raw.sources.items() for shard in source.shards]
    for manifest in (raw, mix):
        assert run("data", "shards", digest_of_manifest(manifest), "--store", store.uri, "--json") == 0
        rows = json.loads(capsys.readouterr().out)
        assert [(row["source"], row["shard"], row["sha256"]) for row in rows] == [
            (name, shard.name, shard.tar.sha256) for name, shard in shards
        ]
        assert sum(row["num_text_tokens"] for row in rows) == sum(shard.num_text_tokens for _, shard in shards)
    assert run("data", "shards", digest_of_manifest(mix), "--store", store.uri) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(shards) and all(len(line.split()[-1]) == 64 for line in lines[1:])


def test_show_writes_a_page_that_stands_alone_and_escapes(mixture, tmp_path):
    store, raw, mix = mixture
    page = tmp_path / "page.html"
    assert run("data", "show", digest_of_manifest(mix), "--store", store.uri, "--output", page, "--sequences", 12) == 0
    html = page.read_text()
    assert html.count('class="strip"') == 12
    assert "data:image/" in html and "<script" not in html and "http://" not in html and "<b>bold" not in html
    assert 'class="tok"' in html and "end of document" in html and "shaded alternately" in html
    assert run("data", "show", digest_of_manifest(raw), "--store", store.uri, "--output", page) == 0
    assert "The first documents of each source" in page.read_text()


def test_show_names_a_damaged_sample_and_goes_on(tmp_path):
    store = LocalStore(tmp_path / "store")
    raw, mix = build_mix(store, tmp_path, weights={"captions": 1.0})
    for shard in raw.sources["captions"].shards[:2]:
        path = store.root / blob_key(shard.tar)
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = bytes(len(data) // 2)
        path.write_bytes(data)
    page = tmp_path / "page.html"
    assert run("data", "show", digest_of_manifest(mix), "--store", store.uri, "--output", page) == 0
    assert "skipped, damaged: shard captions-0000" in page.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["stats", "no-such-run"], 80, "no-such-run"),
        (["show", "deadbeef00"], 80, "deadbeef00"),
        (["score", "nowhere.csv"], 80, "no such file"),
    ],
)
def test_what_is_not_there_is_one_clear_error(mixture, capsys, words, code, message):
    assert run("data", *words, "--store", mixture[0].uri) == code
    assert message in capsys.readouterr().err


def test_scores_are_added_as_of_their_time(mixture, tmp_path, capsys):
    store, raw, _ = mixture
    push_raw(store, raw, parse_time("2026-01-01"))
    shards = [shard.tar.sha256 for shard in raw.sources["captions"].shards]
    table = tmp_path / "scores.csv"
    with table.open("w") as file:
        csv.writer(file).writerows([("shard", "quality"), *((shard, 0.25) for shard in shards)])
    assert run("data", "score", table, "--store", store.uri, "--at", "2026-02-01") == 0
    rows = read_rows(store, "shard_quality").to_pylist()
    assert {row["shard"]: row["quality"] for row in rows} == dict.fromkeys(shards, 0.25)
    assert {row["event_timestamp"] for row in rows} == {parse_time("2026-02-01")}
    table.write_text("shard,score\nabc,1\n")
    assert run("data", "score", table, "--store", store.uri) == 80
    assert "no column 'quality'" in capsys.readouterr().err


def test_a_run_without_data_names_the_task_that_failed(tmp_path, capsys):
    store = open_store(str(tmp_path / "store"))
    record(store, "mine", "ingest", state="failed", outcome=81, message="no samples")
    record(store, "mine", "report", Deployment(deployed=False, reason="nothing to deploy", sample={}))
    assert run("data", "stats", "mine", "--store", store.uri) == 80
    assert "run mine made no data: ingest failed (data); see mm1 runs mine" in capsys.readouterr().err
