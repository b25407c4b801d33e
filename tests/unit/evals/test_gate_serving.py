"""The gate compares with the serving model: on the same items, with a margin, or not at all."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from mm1.evals.gate import judge, parse_rules
from mm1.evals.paired import Pairs
from mm1.evals.samples import SCHEMA
from mm1.manifests import EvalReport, GateRule, Score
from mm1.store.base import BlobRef

CANDIDATE, SERVING = "b" * 64, "a" * 64
CONFIG = {"split": "test", "items": 400, "seed": 0, "style": "plain", "tasks": ["vqa"]}
ALPHA = 0.05


class Model:
    """A report of a model with its answers."""

    def __init__(self, values: list[float], checkpoint: str, per_image: int = 1, draws: int = 1, **changes: object) -> None:
        self.rows = [
            {
                "task": "vqa",
                "split": "test",
                "shots": 0,
                "control": "none",
                "draw": draw,
                "item": str(number),
                "cluster": f"image {number // per_image}",
                "prompt": f"<image>question {number}",
                "images": [],
                "references": ["yes"],
                "choices": [],
                "values": [("accuracy", value)],
            }
            for draw in range(draws)
            for number, value in enumerate(values)
        ]
        score = Score(
            task="vqa",
            split="test",
            metric="accuracy",
            shots=0,
            value=float(np.mean(values)),
            stderr=0.0,
            num_items=len(values),
        )
        blob = BlobRef(sha256=checkpoint, num_bytes=0)
        fields = {"benchmarks": "0" * 64, "config": CONFIG, "scores": (score,), "examples": blob, "samples": blob} | changes
        self.report = EvalReport(checkpoint=checkpoint, **fields)

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, SCHEMA)


def gate(rule: str, candidate: Model, serving: Model | None) -> GateRule:
    models = {model.report.checkpoint: model for model in (candidate, serving) if model}
    reports = [serving.report] if serving else []
    (verdict,) = judge(
        parse_rules(rule), [candidate.report], CANDIDATE, reports, lambda report: models[report.checkpoint].table()
    )
    return verdict


def pair(candidate: list[float], serving: list[float], **settings: int) -> tuple[Model, Model]:
    return Model(candidate, CANDIDATE, **settings), Model(serving, SERVING, **settings)


def lost(num_items: int, num_lost: int) -> list[float]:
    return [0.0] * num_lost + [1.0] * (num_items - num_lost)


@pytest.mark.parametrize(
    ("num_lost", "rule", "passed"),
    [
        (0, "vqa/0/accuracy>=serving-0.05", True),
        (4, "vqa/0/accuracy>=serving-0.05", True),
        (20, "vqa/0/accuracy>=serving-0.05", False),
        (40, "vqa/0/accuracy>=serving-0.05", False),
        (0, "vqa/0/accuracy>serving", False),
        (4, "vqa/0/accuracy<=serving+0.05", True),
    ],
)
def test_a_margin_needs_evidence(num_lost, rule, passed):
    verdict = gate(rule, *pair(lost(400, num_lost), lost(400, 0)))
    assert verdict.passed is passed and not verdict.unjudged
    difference = verdict.comparison
    assert difference.difference == pytest.approx(-num_lost / 400) and difference.num_items == difference.num_clusters == 400
    assert difference.low <= difference.difference <= difference.high and difference.value == 1.0
    assert (difference.p_value <= ALPHA) is passed
    assert all(text in verdict.reason for text in ("90 % interval", ", p ", CANDIDATE[:12], "serving model's 1.000"))


def test_a_better_model_is_shown_to_be_better():
    verdict = gate("vqa/0/accuracy>serving", *pair(lost(400, 20), lost(400, 60)))
    assert verdict.passed and verdict.comparison.low > 0
    worse = gate("vqa/0/accuracy<serving", *pair(lost(400, 20), lost(400, 60)))
    assert not worse.passed


def test_too_few_items_cannot_be_judged_and_the_missing_ones_are_counted():
    verdict = gate("vqa/0/accuracy>=serving-0.02", *pair(lost(60, 2), lost(60, 1)))
    assert not verdict.passed and verdict.unjudged == "too few items"
    missing = int(re.search(r"margin of 0\.02; ([0-9,]+) more items are missing", verdict.reason)[1].replace(",", ""))
    assert verdict.comparison.items_missing == missing
    total = (60 + missing) // 60 + 1
    enough = gate("vqa/0/accuracy>=serving-0.02", *pair(lost(60, 2) * total, lost(60, 1) * total))
    assert not enough.unjudged


def test_items_of_one_image_are_one_piece_of_evidence():
    alone = gate("vqa/0/accuracy>=serving-0.05", *pair(lost(400, 4), lost(400, 0)))
    together = gate("vqa/0/accuracy>=serving-0.05", *pair(lost(400, 4), lost(400, 0), per_image=20))
    assert alone.passed and together.unjudged == "too few items" and together.comparison.num_clusters == 20
    one = gate("vqa/0/accuracy>=serving-0.05", *pair(lost(400, 4), lost(400, 0), per_image=400))
    assert not one.passed and "all items are of one image" in one.reason


def test_draws_of_demonstrations_are_no_further_items():
    once = gate("vqa/0/accuracy>=serving-0.02", *pair(lost(100, 3), lost(100, 0)))
    thrice = gate("vqa/0/accuracy>=serving-0.02", *pair(lost(100, 3), lost(100, 0), draws=3))
    assert thrice.comparison.num_items == 100 and thrice.comparison.items_missing == once.comparison.items_missing
    assert thrice.comparison.p_value == pytest.approx(once.comparison.p_value, abs=0.01)


def test_a_first_deployment_has_nothing_to_compare_with():
    verdict = gate("vqa/0/accuracy>=serving-0.02", Model(lost(60, 2), CANDIDATE), None)
    assert verdict.passed and verdict.unjudged == "first deployment" and "first deployment" in verdict.reason


def test_a_missing_score_is_no_first_deployment():
    candidate, serving = pair(lost(400, 0), lost(400, 0))
    serving.report = serving.report.model_copy(update={"scores": ()})
    verdict = gate("vqa/0/accuracy>=serving-0.05", candidate, serving)
    assert verdict.unjudged == "not comparable" and not verdict.passed
    assert f'not scored for the serving checkpoint {SERVING[:12]}: add "vqa@0"' in verdict.reason


def changed(**row: object):
    def change(model: Model) -> None:
        model.rows[7] |= row

    return change


def without_answers(model: Model) -> None:
    model.report = model.report.model_copy(update={"samples": None})


def other_settings(**config: object):
    def change(model: Model) -> None:
        model.report = model.report.model_copy(update={"config": CONFIG | config})

    return change


def other_files(model: Model) -> None:
    model.report = model.report.model_copy(update={"benchmarks": "f" * 64})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed(item="x"), "2 items of vqa/0 only in one of the reports, first '7'"),
        (changed(references=["no"]), "item '7' of vqa/0 differ between the reports: references"),
        (changed(images=["0f"]), "item '7' of vqa/0 differ between the reports: images"),
        (changed(prompt="<image>another"), "item '7' of vqa/0 differ between the reports: prompt"),
        (changed(values=[]), "accuracy is a metric of the whole corpus"),
        (changed(values=[("accuracy", float("nan"))]), "finite"),
        (without_answers, "has no per-item answers"),
        (other_settings(seed=1), "different settings: seed 0, and 1 for the serving model"),
        (other_settings(style="chat"), "style 'plain', and 'chat' for the serving model"),
        (other_files, "different benchmark files or tasks (digests 000000000000 and ffffffffffff for the serving model)"),
    ],
)
def test_other_items_files_or_settings_are_refused_by_name(change, named):
    candidate, serving = pair(lost(400, 0), lost(400, 0))
    change(serving)
    verdict = gate("vqa/0/accuracy>=serving-0.05", candidate, serving)
    assert not verdict.passed and verdict.unjudged == "not comparable"
    assert verdict.reason.startswith("cannot judge: ") and named in verdict.reason


def without_rows(count: int):
    def change(model: Model) -> None:
        del model.rows[:count]

    return change


def twice(model: Model) -> None:
    model.rows.append(model.rows[3])


def other_score(model: Model) -> None:
    (score,) = model.report.scores
    model.report = model.report.model_copy(update={"scores": (score.model_copy(update={"value": 0.9}),)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_rows(400), "no answers to vqa/0 item by item"),
        (without_rows(100), "of the checkpoint have a mean of 1.0000 for vqa/0/accuracy, but its score is 0.7500"),
        (twice, "two answers to item '3'"),
        (other_score, "but its score is 0.9000"),
    ],
)
def test_answers_that_are_not_those_of_the_score_are_refused(change, named):
    """Both tables are damaged in the same way, so that their rows still pair."""
    candidate, serving = pair(lost(400, 100), lost(400, 100))
    for model in (candidate, serving):
        change(model)
    verdict = gate("vqa/0/accuracy>=serving-0.05", candidate, serving)
    assert not verdict.passed and verdict.unjudged == "not comparable" and named in verdict.reason


def test_settings_that_only_select_scores_may_differ():
    candidate, serving = pair(lost(400, 0), lost(400, 0))
    other_settings(tasks=["vqa", "text"], shots=[0, 4], controls=True)(serving)
    assert gate("vqa/0/accuracy>=serving-0.05", candidate, serving).passed


def test_a_margin_that_allows_everything_is_refused():
    verdict = gate("vqa/0/accuracy>=serving-2", *pair(lost(400, 0), lost(400, 0)))
    assert not verdict.passed and "a margin of 2 allows any score" in verdict.reason


# -- false promotions ---------------------------------------------------------------------------------------------------

NUM_GATES = 1000


def binary(rng, num_items, loss, gain):
    return rng.choice([-1.0, 0.0, 1.0], num_items, p=[loss, 1 - loss - gain, gain]), np.arange(num_items)


def losses_only(rng, num_items, loss):
    return binary(rng, num_items, loss, 0.0)


def continuous(rng, num_items, mean):
    return np.clip(rng.normal(mean, 0.15, num_items), -1, 1), np.arange(num_items)


def skewed(rng, num_items, mean):
    """Few items lose much, most nothing."""
    return -rng.binomial(1, 0.15, num_items) * rng.beta(2, 2, num_items) * (mean / -0.075), np.arange(num_items)


def clustered(rng, num_images, loss):
    """One to six questions about an image, whose losses go together."""
    sizes = rng.integers(1, 7, num_images)
    shares = np.repeat(rng.beta(0.5, 0.5 * (1 - loss) / loss, num_images), sizes)
    return -1.0 * rng.binomial(1, shares), np.repeat(np.arange(num_images), sizes)


def promotions(draw, margin: float, seed: int = 0, **settings: object) -> float:
    """Return the share of gates with the rule ``>=serving-margin`` that let the model through."""
    rng = np.random.default_rng(seed)
    passed = 0
    for _ in range(NUM_GATES):
        differences, clusters = draw(rng, **settings)
        pairs = Pairs.of(differences, np.zeros(len(differences)), clusters.tolist())
        powerful = margin <= 0 or pairs.smallest_effect() <= margin
        passed += powerful and pairs.p_value(-margin) <= ALPHA
    return passed / NUM_GATES


@pytest.mark.parametrize(
    ("draw", "margin", "settings"),
    [
        (losses_only, 0.05, {"num_items": 60, "loss": 0.05}),
        (losses_only, 0.02, {"num_items": 256, "loss": 0.02}),
        (losses_only, 0.3, {"num_items": 12, "loss": 0.3}),
        (binary, 0.05, {"num_items": 256, "loss": 0.1, "gain": 0.05}),
        (binary, 0.2, {"num_items": 30, "loss": 0.25, "gain": 0.05}),
        (continuous, 0.05, {"num_items": 60, "mean": -0.05}),
        (continuous, 0.3, {"num_items": 8, "mean": -0.3}),
        (skewed, 0.05, {"num_items": 120, "mean": -0.05}),
        (clustered, 0.05, {"num_images": 120, "loss": 0.05}),
        (clustered, 0.2, {"num_images": 25, "loss": 0.2}),
        # A/A: a model of the same quality is not shown to be better
        (binary, 0.0, {"num_items": 100, "loss": 0.1, "gain": 0.1}),
        (binary, 0.0, {"num_items": 10, "loss": 0.2, "gain": 0.2}),
        (continuous, 0.0, {"num_items": 60, "mean": 0.0}),
    ],
)
def test_a_model_exactly_at_the_margin_passes_in_at_most_5_percent_of_1000_gates(draw, margin, settings):
    share = promotions(draw, margin, **settings)
    print(f"{draw.__name__} {settings}: {share:.3f}")
    noise = 2.33 * (ALPHA * (1 - ALPHA) / NUM_GATES) ** 0.5  # of a share of 5 % among 1,000, at 99 %
    assert share <= ALPHA + noise


@pytest.mark.parametrize(
    ("draw", "settings", "least"),
    [
        (binary, {"num_items": 512, "loss": 0.03, "gain": 0.03}, 0.95),
        (continuous, {"num_items": 256, "mean": 0.0}, 0.95),
        (clustered, {"num_images": 256, "loss": 0.005}, 0.9),
    ],
)
def test_a_model_as_good_as_the_serving_one_passes(draw, settings, least):
    share = promotions(draw, 0.05, seed=1, **settings)
    print(f"{draw.__name__} {settings}: {share:.3f}")
    assert share >= least


def test_all_rules_must_hold_so_that_several_need_no_correction():
    """A model that is at the margin of one of three tasks, and as good in the others."""
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(NUM_GATES):
        tasks = [losses_only(rng, 200, share)[0] for share in (0.05, 0.0, 0.0)]
        passed += all(Pairs.of(values, np.zeros(200)).p_value(-0.05) <= ALPHA for values in tasks)
    assert passed / NUM_GATES <= ALPHA + 0.016
