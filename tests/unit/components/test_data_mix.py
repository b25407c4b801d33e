"""Step data_mix: what it freezes and measures, and that the loader can read it."""

import logging
from itertools import islice

import pytest

from mm1.data.load.loader import MixtureLoader
from mm1.errors import Outcome
from mm1.manifests import DataMix, RawData, load
from mm1.store.open import open_store
from mm1_components.data_mix import STEP
from mm1_components.ingest import STEP as INGEST
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.raw_files import pairs, write_img2dataset, write_text


def run(step, folder, **inputs):
    out = folder / f"{step.name}.out"
    out.unlink(missing_ok=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    places = ["--store", str(folder / "store"), "--out.manifest", str(out), "--artifact.summary.md", str(folder / "summary.md")]
    outcome = execute(step, build_parser(step).parse_args([*options, *places]))
    return outcome, out.read_text() if out.exists() else ""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_img2dataset(folder / "captions" / "00000.tar", pairs(40))
    write_text(folder / "text.jsonl", [f"text number {number} is about nothing" for number in range(60)] + ["long " * 100])
    outcome, uri = run(INGEST, folder, captions=folder / "captions", text=folder / "text.jsonl", preset="toy", vocabulary=400)
    assert outcome is Outcome.DONE
    return folder, uri


def test_a_mixture_is_frozen_measured_and_readable(data):
    folder, uri = data
    outcome, found = run(STEP, folder, data=uri, weights="captions=3,text=1", sequence_length=64, seed=5)
    assert outcome is Outcome.DONE
    mix, raw = load(found, DataMix), load(uri, RawData)
    assert [(source.name, source.weight) for source in mix.sources] == [("captions", 0.75), ("text", 0.25)]
    assert (mix.order_seed, mix.sequence_length, mix.image_size_px, mix.tokenizer) == (5, 64, 32, raw.tokenizer)
    assert mix.parents == (mix.raw,)
    assert 0.5 < mix.packing["fill"] <= 1 and mix.packing["sequences"] == 2000
    assert mix.packing["text/cut_share"] > 0 == mix.packing["captions/cut_share"]
    assert len(found.encode()) < 200 and len(mix.model_dump_json()) < 5_000
    summary = (folder / "summary.md").read_text()
    epochs = float(next(line for line in summary.splitlines() if line.startswith("| captions")).split("|")[-2])
    assert epochs == pytest.approx(7_500 * mix.packing["captions/documents_per_sequence"] / 40, rel=0.01)
    loader = MixtureLoader(
        open_store(str(folder / "store")),
        mix,
        raw,
        micro_batch=4,
        global_batch=4,
        rank=0,
        world_size=1,
    )
    batches = list(islice(loader, 10))
    sources = [source for batch in batches for source in batch["source_ids"].tolist()]
    assert (sources.count(0), sources.count(1)) == (30, 10)


def test_what_the_manifest_measures_is_what_the_loader_gives(data):
    folder, uri = data
    _, found = run(STEP, folder, data=uri, weights="text=1", sequence_length=32)
    mix = load(found, DataMix)
    settings = {"micro_batch": 50, "global_batch": 50, "rank": 0, "world_size": 1}
    loader = MixtureLoader(open_store(str(folder / "store")), mix, load(uri, RawData), **settings)
    filled = sum(int((batch["document_ids"] > 0).sum()) for batch in islice(loader, 40))
    assert filled / 2000 == pytest.approx(mix.packing["tokens_per_sequence"], abs=0.001)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "weights: 'interleaved' has a weight, but the data only has captions, text"),
        ({"weights": "captions=0"}, "the sum of 'captions=0' is zero"),
        ({"weights": "captions"}, "captions=0.45"),
        ({"weights": "captions=1", "sequence_length": 8, "image_tokens": 7}, "sequence_length"),
        ({"weights": "captions=1", "max_images": 0}, "max_images"),
    ],
)
def test_bad_settings_are_refused(data, caplog, inputs, message):
    folder, uri = data
    with caplog.at_level(logging.ERROR):
        outcome, found = run(STEP, folder, data=uri, **inputs)
    assert (outcome, found) == (Outcome.CONFIGURATION, "")
    assert message in caplog.text


def test_data_in_another_store_are_refused_with_the_remedy(data, tmp_path, caplog):
    folder, uri = data
    outcome, _ = run(STEP, tmp_path, data=uri, weights="text=1")
    assert outcome is Outcome.CONFIGURATION
    assert f"set --store file://{folder / 'store'}" in caplog.text
