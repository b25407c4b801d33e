"""Step data_mix: what it freezes and measures, and that the loader can read it."""

import logging
import re
from itertools import islice

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mm1.data.load.loader import MixtureLoader
from mm1.data.load.mixture import weights_of
from mm1.data.load.validation import open_holdout
from mm1.errors import ConfigurationError, Outcome
from mm1.manifests import DataMix, RawData, digest_of_manifest, load
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1_components.data_mix import STEP, check_sources
from mm1_components.ingest import STEP as INGEST
from mm1_components.pretrain import STEP as PRETRAIN
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.execute import execute
from mm1_components.wrapper.raw_data import SOURCES
from tests.support.data_steps import run
from tests.support.mixtures import build_mix
from tests.support.raw_files import pairs, write_img2dataset, write_text


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


def test_tiles_are_part_of_the_mixture_and_its_summary(data):
    folder, uri = data
    _, single = run(STEP, folder, data=uri, weights="captions=1")
    assert "image_layout" not in load(single, DataMix).model_dump_json(), "as before there were layouts"
    outcome, found = run(STEP, folder, data=uri, weights="captions=1", image_layout="dynamic, grid=2-4")
    mix = load(found, DataMix)
    assert (outcome, mix.image_layout) == (Outcome.DONE, "dynamic,grid=2-4") and mix.mark_tokens["(0,0,0)"] > 1
    tiles, images = mix.packing["images_per_sequence"], load(single, DataMix).packing["images_per_sequence"]
    assert tiles / mix.packing["documents_per_sequence"] > 2 and mix.packing["documents_per_sequence"] < images
    assert "layout dynamic,grid=2-4: up to 5 tiles" in (folder / "summary.md").read_text()


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
        (
            {"weights": "captions=1,interleaved=1"},
            "weights: 'interleaved' has a weight but is not ingested: give interleaved=, or weights without it; "
            "ingested sources: captions, text",
        ),
        ({"weights": "captions/cc12m=1"}, "'captions/cc12m': captions has no subfolder 'cc12m'"),
        ({"weights": "captions/=1"}, "expected a source or source/group"),
        ({"weights": "captions=1,text=0.00001"}, "text would get less than one of 10,000 sequences"),
        ({"weights": "text=1", "weights_by": "image"}, "the sources have no images"),
        ({"holdout": "interleaved=0.1"}, "holdout: the data has no source 'interleaved', only captions, text"),
        ({"holdout": "captoins=0.1"}, "holdout: unknown source 'captoins'; did you mean 'captions'?"),
        ({"holdout": "text=61"}, "text has 61 samples, expected more than the 61 to hold out"),
        ({"weights": "captions=0"}, "the sum of 'captions=0' is zero"),
        ({"weights": "captions"}, "captions=0.45"),
        ({"weights": "captions=1", "sequence_length": 8, "image_tokens": 7}, "sequence_length"),
        ({"weights": "captions=1", "max_images": 0}, "max_images"),
        ({"weights": "captions=1", "image_layout": "tiled"}, "image_layout: expected single or static or dynamic, got 'tiled'"),
        ({"weights": "captions=1", "image_layout": "static", "max_images": 4}, "up to 5 tiles with 20 tokens"),
    ],
)
def test_bad_settings_are_refused(data, caplog, inputs, message):
    folder, uri = data
    with caplog.at_level(logging.ERROR):
        outcome, found = run(STEP, folder, data=uri, **inputs)
    assert (outcome, found) == (Outcome.CONFIGURATION, "")
    assert message in caplog.text


@given(
    given=st.sets(st.sampled_from(SOURCES), min_size=1), weights=st.sampled_from(["mm1", "mm1.5", "text", "captions=1,text=2"])
)
def test_the_early_check_and_the_step_agree_on_any_subset_of_sources(given, weights):
    names = [name for name in SOURCES if name in given]
    ingest = Producer("ingest", {"data": "", **{name: "x" if name in given else "" for name in SOURCES}})
    try:
        found, notes = weights_of(weights, names)
    except ConfigurationError as error:
        with pytest.raises(ConfigurationError, match=re.escape(str(error))):
            check_sources(weights, ingest)
        return
    check_sources(weights, ingest)
    assert found and all(weight > 0 and name in given for name, weight in found.items())
    everything = weights_of(weights, SOURCES)[0]
    kept = {name: weight for name, weight in found.items() if name in everything}
    assert all(weight == everything[name] for name, weight in kept.items() if name != "synthetic")  # the ratios stay
    assert bool(notes) == (set(everything) - set(found) != set())


def test_the_weight_of_a_source_that_is_not_ingested_goes_to_the_others(data, caplog):
    folder, uri = data
    with caplog.at_level(logging.INFO):
        outcome, found = run(STEP, folder, data=uri)
    assert outcome is Outcome.DONE
    sentence = "interleaved is not ingested: its weight 0.45 goes to the others"
    assert sentence in caplog.text and sentence in (folder / "summary.md").read_text()
    sources = load(found, DataMix).sources
    assert [(source.name, source.weight) for source in sources] == [("captions", 0.818181818), ("text", 0.181818182)]
    for weights, expected in [("text", [("text", 1.0)]), ("mm1_5", [("captions", 0.555555556), ("text", 0.444444444)])]:
        _, found = run(STEP, folder, data=uri, weights=weights)
        assert [(source.name, source.weight) for source in load(found, DataMix).sources] == expected


def test_rewritten_captions_take_the_place_of_missing_captions():
    weights, notes = weights_of("mm1", ["synthetic", "text"])
    assert weights == {"text": 0.10, "synthetic": 0.45}
    assert notes[0] == "captions is not ingested: its weight 0.45 goes to synthetic"


def test_fine_tuning_mixes_in_the_data_of_pre_training_that_is_given_and_needs_instructions():
    everything, notes = weights_of("sft", ["captions", "interleaved", "text", "instructions"])
    assert everything["instructions"] == 0.7 and sum(everything.values()) == pytest.approx(1) and not notes
    assert weights_of("sft", ["instructions"])[0] == {"instructions": 0.7}
    with pytest.raises(ConfigurationError, match="weights: 'instructions' has a weight but is not ingested"):
        weights_of("sft", ["captions", "text"])


def test_held_out_samples_are_frozen_shown_and_never_loaded(data):
    folder, uri = data
    outcome, found = run(
        STEP, folder, data=uri, weights="captions=1,text=1", holdout="captions=0.2,text=10", weights_by="label"
    )
    assert outcome is Outcome.DONE
    mix = load(found, DataMix)
    captions, text = mix.sources
    assert text.num_held_out == 10 and text.num_samples == 51 and captions.num_samples + captions.num_held_out == 40
    assert mix.packing["captions/label_share"] == pytest.approx(0.5, abs=0.05)
    assert captions.sequence_share != captions.weight == 0.5
    summary = (folder / "summary.md").read_text()
    assert f"holdout=text=10 is a share of {mix.holdout['text']!r} now" in summary
    assert "shares of labels (tokens with loss)" in summary
    rows = [line.split("|") for line in summary.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert next(row[8].strip() for row in rows if row[1].strip() == "text") == "10"
    opened = open_holdout(open_store(str(folder / "store")), mix, "text")
    assert len(list(opened.samples())) == 10
    _, alone = run(STEP, folder, data=uri, weights="text=1", holdout=f"text={mix.holdout['text']!r}")
    assert load(alone, DataMix).sources[0].num_held_out == 10


def test_a_text_base_is_not_trained_on_images(tmp_path, caplog):
    store = LocalStore(tmp_path / "store")
    _, mix = build_mix(
        store, tmp_path, weights={"captions": 1.0}, sequence_length=128, max_images=24, image_size_px=32, vocabulary=300
    )
    address = f"{store.uri}/manifests/{digest_of_manifest(mix)}.json"
    options = [
        f"--data={address}",
        "--recipe=mm1_tiny_lm",
        f"--store={tmp_path / 'store'}",
        f"--out.manifest={tmp_path / 'out'}",
    ]
    with caplog.at_level(logging.ERROR):
        assert execute(PRETRAIN, build_parser(PRETRAIN).parse_args(options)) is Outcome.CONFIGURATION
    assert "data: the mixture has images (captions), and the text base is trained on text only: give text=..." in caplog.text


def test_data_in_another_store_are_refused_with_the_remedy(data, tmp_path, caplog):
    folder, uri = data
    outcome, _ = run(STEP, tmp_path, data=uri, weights="text=1")
    assert outcome is Outcome.CONFIGURATION
    assert f"set --store file://{folder / 'store'}" in caplog.text
