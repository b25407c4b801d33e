"""Verdicts of claims about cells with a known truth."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.evals.samples import SCHEMA
from mm1.manifests import StudyPlan, load
from mm1.store.open import open_store
from mm1.studies.cells import COLUMNS, read_cells, study_data
from mm1.studies.verdict import corrected_for_run, holm, judge
from tests.support.trained_cells import publish_studies, two_levels


def judged(tmp_path, content, truth, **more):
    published = publish_studies(open_store(str(tmp_path / "store")), {"letters": content}, truth, **more)
    plan = load(published.plan, StudyPlan)
    (data,) = study_data(plan, "0" * 64, read_cells(plan, published.trained, published.reports))
    return judge(data)


def steady(means):
    """Values of the levels that do not vary with the seed by more than an item."""
    return lambda level, seed, term: means[level]


def claim(**changes):
    return two_levels()["claims"][0] | changes


@pytest.mark.parametrize(
    ("means", "outcome", "reason"),
    [
        ({"A": 0.2, "B": 0.8}, "shown", ""),
        ({"A": 0.8, "B": 0.2}, "opposite", ""),
        ({"A": 0.5, "B": 0.5}, "not shown", "smallest detectable effect"),
    ],
)
def test_a_direction_is_shown_opposite_or_not_shown(tmp_path, means, outcome, reason):
    (verdict,) = judged(tmp_path, two_levels(), steady(means))
    assert verdict.outcome == outcome
    assert reason in verdict.reason
    assert verdict.effect == pytest.approx(means["B"] - means["A"], abs=0.02)
    assert verdict.low <= verdict.effect <= verdict.high
    assert verdict.sentence.startswith(f"{outcome}: ")


def test_a_real_effect_below_the_effect_of_interest_is_not_shown(tmp_path):
    content = two_levels(claims=[claim(effect=0.5)])
    (verdict,) = judged(tmp_path, content, steady({"A": 0.4, "B": 0.7}), num_items=128)
    assert verdict.p_study < 0.05
    assert (verdict.outcome, verdict.reason) == ("not shown", "real, but smaller than the effect of interest, 0.5")


def test_an_effect_exactly_at_the_smallest_effect_of_interest_is_shown(tmp_path):
    content = two_levels(claims=[claim(effect=0.1)], scores={"few-shot": {"mean": ["vague/4/accuracy"]}})
    (verdict,) = judged(tmp_path, content, steady({"A": 0.6, "B": 0.7}), num_items=2000)
    assert verdict.effect == pytest.approx(0.1, abs=1e-9)
    assert verdict.outcome == "shown"


def test_values_that_are_not_numbers_leave_the_other_claims_alone(tmp_path):
    """A p-value that is not a number would make all others of the study 1."""
    scores = two_levels()["scores"] | {"loss": {"mean": ["novel/8/accuracy"]}}
    content = two_levels(scores=scores, claims=[claim(), claim(score="loss")])
    published = publish_studies(open_store(str(tmp_path / "store")), {"letters": content}, steady({"A": 0.2, "B": 0.8}))
    plan = load(published.plan, StudyPlan)
    cells = read_cells(plan, published.trained, published.reports)
    rows = cells["letters-B-1"].all_answers().to_pylist()
    rows = [row | {"values": [("accuracy", math.nan)]} if row["task"] == "novel" else row for row in rows]
    cells["letters-B-1"].__dict__["answers"] = pa.Table.from_pylist(rows, SCHEMA).select(COLUMNS)
    first, second = judge(*study_data(plan, "0" * 64, cells))
    assert (first.outcome, second.outcome) == ("shown", "incomplete")
    assert second.reason == "letters-B-1: novel/8/accuracy is nan for 64 of 64 items"


def test_seeds_that_disagree_are_not_enough(tmp_path):
    effects = {0: 0.6, 1: 0.0, 2: 0.1}
    (verdict,) = judged(tmp_path, two_levels(), lambda level, seed, term: 0.2 + effects[seed] * (level == "B"), num_items=256)
    assert verdict.outcome == "not shown"
    assert "too noisy" in verdict.reason
    assert verdict.by_seed == pytest.approx(effects, abs=0.01)


@pytest.mark.parametrize(
    ("margin", "difference", "outcome"), [(0.3, 0.0, "shown"), (0.1, 0.5, "opposite"), (0.02, 0.0, "not shown")]
)
def test_equality_needs_a_margin_that_the_data_can_prove(tmp_path, margin, difference, outcome):
    content = two_levels(claims=[claim(kind="equal", effect=margin)])
    (verdict,) = judged(tmp_path, content, steady({"A": 0.2, "B": 0.2 + difference}), num_items=128)
    assert verdict.outcome == outcome


def test_a_lower_loss_is_better(tmp_path):
    content = two_levels(scores={"few-shot": {"mean": ["loss/captions"], "unit": "nats"}}, claims=[claim(effect=0.05)])
    losses = {"A": 0.5, "B": 0.4}
    (verdict,) = judged(tmp_path, content, lambda level, seed, term: losses[level] + 0.001 * seed * (level == "A"))
    assert (verdict.outcome, verdict.over, verdict.num_items) == ("shown", "seeds", 0)
    assert verdict.effect == pytest.approx(0.101)


def test_a_gain_is_compared_within_a_level(tmp_path):
    scores = {"8 shots": {"mean": ["vague/8/accuracy"]}, "4 shots": {"mean": ["vague/4/accuracy"]}}
    claims = [claim(better="B", than="B", score="8 shots", than_score="4 shots")]
    means = {"vague/8/accuracy": 0.9, "vague/4/accuracy": 0.4}
    (verdict,) = judged(tmp_path, two_levels(scores=scores, claims=claims), lambda level, seed, term: means[term])
    assert verdict.outcome == "shown"
    assert verdict.effect == pytest.approx(0.5, abs=0.02)


def test_the_control_with_wrong_images_is_a_value(tmp_path):
    scores = {"seen": {"mean": ["vqa/0/accuracy"]}, "wrong image": {"mean": ["vqa/0/accuracy/shuffled"]}}
    claims = [claim(better="B", than="B", score="seen", than_score="wrong image")]
    content = two_levels(scores=scores, claims=claims)
    (verdict,) = judged(tmp_path, content, lambda level, seed, term: 0.3 if "shuffled" in term else 0.8)
    assert verdict.effect == pytest.approx(0.5, abs=0.02)


def test_one_seed_is_judged_over_items_and_the_verdict_names_it(tmp_path):
    (verdict,) = judged(tmp_path, two_levels(seeds=[0]), steady({"A": 0.2, "B": 0.9}))
    assert (verdict.outcome, verdict.over, verdict.reason) == ("shown", "items", "one seed: the error is over items only")


def test_claims_about_failed_cells_are_incomplete_and_others_are_judged(tmp_path):
    content = two_levels(claims=[claim(), claim(better="C", than="B")])
    content["levels"] = content["levels"] | {"C": {}}
    means = {"A": 0.1, "B": 0.8, "C": 0.9}
    shown_claim, incomplete = judged(tmp_path, content, steady(means), failed=["letters-C-1"])
    assert shown_claim.outcome == "shown"
    assert (incomplete.outcome, incomplete.missing) == ("incomplete", ("letters-C-1",))
    assert incomplete.effect is None
    assert "letters-C-1" in incomplete.sentence


def test_a_value_that_a_cell_lacks_makes_a_claim_incomplete(tmp_path):
    content = two_levels(scores={"few-shot": {"mean": ["loss/text"]}})
    published = publish_studies(open_store(str(tmp_path)), {"letters": content}, steady({"A": 1.0, "B": 1.0}))
    plan = load(published.plan, StudyPlan)
    lacking = plan.model_copy(update={"studies": (plan.studies[0].model_copy(update={"content": _with_term(content)}),)})
    (data,) = study_data(lacking, "0" * 64, read_cells(plan, published.trained, published.reports))
    (verdict,) = judge(data)
    assert verdict.outcome == "incomplete"
    assert "no accuracy of vqa at 0 shots" in verdict.reason


def _with_term(content):
    return content | {"scores": {"few-shot": {"mean": ["vqa/0/accuracy"]}}}


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_corrected_p_values_keep_their_order_and_only_grow(p_values):
    corrected = holm(p_values)
    assert all(p <= q <= min(1.0, len(p_values) * p) + 1e-12 for p, q in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[index] for index in order] == sorted(corrected)


def test_p_values_are_corrected_for_the_study_and_for_the_run(tmp_path):
    content = two_levels(claims=[claim(), claim(says="Again.")])
    verdicts = judged(tmp_path, content, steady({"A": 0.3, "B": 0.5}))
    first, *_ = corrected_for_run([verdicts, verdicts])
    assert [each.p_study for each in first] == pytest.approx([2 * each.p_value for each in verdicts])
    assert [each.p_run for each in first] == pytest.approx([4 * each.p_value for each in verdicts])
