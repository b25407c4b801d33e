"""Presets of instruction sets: the papers' numbers, the weights of the sets that are ingested, what happens to the others."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mm1.data.load.mixture import check_period, parse_weights
from mm1.data.load.sets import plan, presets, set_weights
from mm1.errors import ConfigurationError, Outcome
from mm1.manifests import DataMix, load
from mm1_components.data_mix import STEP
from mm1_components.ingest import STEP as INGEST
from tests.support.data_steps import run

MM1_5_SHARES = {"text_rich": 37.2, "grounding": 22.5, "general": 11.3, "math": 5.6, "code": 2.3, "science": 1.1}
SET_NAMES = {preset: [each.name for each in plan(preset, {})] for preset in presets()}


def test_mm1s_sets_are_weighted_by_their_samples():
    planned = plan("mm1_sft", {})
    assert sum(each.paper_samples for each in planned) == pytest.approx(1_450_000, rel=0.005)
    shares = {each.name: each.share for each in planned}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["synthdog_en"] / shares["vqav2"] == pytest.approx(500 / 83)


def test_mm1_5s_groups_have_the_printed_shares():
    planned = plan("mm1_5_sft", {})
    groups = {each.group: sum(other.share for other in planned if other.group == each.group) for each in planned}
    expected = {**{name: share / 100 for name, share in MM1_5_SHARES.items()}, "multi_image": 0.1, "text": 0.1}
    assert groups == pytest.approx(expected)
    single = sum(expected[name] for name in MM1_5_SHARES)
    assert single == pytest.approx(0.8, abs=0.001)
    for name, ratio in {"science": 0.1, "math": 0.5, "code": 0.2, "grounding": 2.0}.items():  # alpha, relative to general
        assert expected[name] / expected["general"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("preset", presets())
@given(data=st.data())
def test_weights_of_any_ingested_sets_sum_to_one_and_every_missing_set_is_reported(preset, data):
    names = data.draw(st.sets(st.sampled_from(SET_NAMES[preset]), min_size=1))
    samples = {name: data.draw(st.integers(1, 10**6)) for name in names}
    weights, notes = set_weights(preset, {**samples, "others": 5})
    assert sum(weights.values()) == pytest.approx(1)
    assert set(weights) == {f"instructions/{name}" for name in names}
    text = " ".join(notes)
    assert all(name in text for name in SET_NAMES[preset] if name not in names)
    planned = plan(preset, samples)
    if preset == "mm1_sft":  # samples are drawn uniformly: the ratios of the sets that are there stay
        share = sum(each.share for each in planned if each.folder)
        assert all(each.weight == pytest.approx(each.share / share) for each in planned if each.folder)
        return
    kept = {each.group for each in planned if each.folder}
    share = sum(each.share for each in planned if each.group in kept)
    for group in kept:  # the ratios of the groups that are there stay
        ours, paper = (sum(getattr(each, field) for each in planned if each.group == group) for field in ("weight", "share"))
        assert ours == pytest.approx(paper / share)


def test_sets_without_published_counts_are_drawn_uniformly_within_their_group():
    weights, _ = set_weights("mm1_5_sft", {"llava": 300, "ShareGPT4V": 100})
    assert weights == pytest.approx({"instructions/llava": 0.75, "instructions/ShareGPT4V": 0.25})


def test_folders_match_regardless_of_case_and_dashes_and_strangers_are_refused():
    weights, notes = set_weights("mm1_sft", {"A-OKVQA": 10, "SynthDog-EN": 10})
    assert list(weights) == ["instructions/A-OKVQA", "instructions/SynthDog-EN"]
    assert any("text_only not ingested: 0.9% of the paper's mixture go to the other sets" in note for note in notes)
    weights, _ = set_weights("mm1_sft", {"OCR-VQA": 1, "OK-VQA": 1, "ShareGPT-4V": 1, "aokvqa": 1, "VQA_v2": 1, "mine": 1})
    assert [name.partition("/")[2] for name in weights] == ["ShareGPT-4V", "VQA_v2", "OK-VQA", "OCR-VQA", "aokvqa"]
    with pytest.raises(ConfigurationError, match="the folders ok-vqa and OKVQA of instructions have the name of one set"):
        set_weights("mm1_sft", {"ok-vqa": 1, "OKVQA": 1})
    with pytest.raises(ConfigurationError, match=r"has none of llava_conversation, .*its folders are mine: name them so"):
        set_weights("mm1_sft", {"mine": 10})


def test_a_mixture_of_sets_is_weighted_by_samples_and_its_summary_shows_the_plan(tmp_path):
    folders = {"vqav2": ["what is it ?"] * 30, "AI2D": ["a much longer question about a diagram , what is shown ?"] * 10}
    for name, questions in folders.items():
        (tmp_path / "raw" / name).mkdir(parents=True)
        turns = [[("human", f"{question} {number}"), ("gpt", "a ring")] for number, question in enumerate(questions)]
        rows = [{"conversations": [{"from": who, "value": text} for who, text in row]} for row in turns]
        (tmp_path / "raw" / name / "train.json").write_text(json.dumps(rows))
    outcome, raw = run(INGEST, tmp_path, instructions=tmp_path / "raw", preset="toy", vocabulary=300)
    assert outcome is Outcome.DONE
    outcome, uri = run(STEP, tmp_path, data=raw, weights="mm1_sft")
    mix = load(uri, DataMix)
    assert mix.weights_by == "sample" and [source.name for source in mix.sources] == ["instructions/vqav2", "instructions/AI2D"]
    begun = [mix.packing[f"{source.name}/documents_begun"] for source in mix.sources]
    assert begun[1] / begun[0] == pytest.approx(2.5 / 83, rel=0.1)
    summary = (tmp_path / "summary.md").read_text()
    assert "| academic | vqav2 | 5.73% | 97.08% | 83,000 | 30 |" in summary
    assert "| text_rich | docvqa | 2.69% | | 39,000 | not ingested |" in summary


def test_every_set_of_the_papers_occurs_in_the_order_of_the_mixture():
    for preset in presets():
        check_period(parse_weights(preset))
