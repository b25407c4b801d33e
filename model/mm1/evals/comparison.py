"""A checkpoint's answers next to the serving model's, item by item. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mm1.evals.paired import CONFIDENCE, Pairs
from mm1.evals.pairing import Row, pair_rows
from mm1.evals.rules import ScoreRule
from mm1.lineage.text import count
from mm1.manifests import Comparison, EvalReport

if TYPE_CHECKING:
    import pyarrow as pa

ReadTable = Callable[[EvalReport], "pa.Table"]
"""Reads the answers of a report (:mod:`mm1.evals.samples`)."""

SELECTING = ("tasks", "shots", "controls", "text_demonstrations", "examples")
"""Fields of an evaluation's configuration that select its scores and do not change them."""
ROUNDING = 1e-6
"""Relative difference of a score and the mean of its answers that is due to rounding."""


class NotComparable(Exception):
    """Two reports cannot be compared; the message names what differs."""


@dataclass(frozen=True, kw_only=True)
class TooFewItems(Exception):
    """The items are too few to judge a margin."""

    comparison: Comparison


def check_same_inputs(report: EvalReport, serving: EvalReport) -> None:
    """Check that two reports are about the same benchmark files, with the same settings.

    Raises:
        NotComparable: they differ.
    """
    if report.benchmarks != serving.benchmarks:
        raise NotComparable(
            f"the reports are about different benchmark files or tasks (digests {report.benchmarks[:12]} and "
            f"{serving.benchmarks[:12]} for the serving model)"
        )
    names = sorted({*report.config, *serving.config} - {*SELECTING})
    for name in names:
        value, of_serving = report.config.get(name), serving.config.get(name)
        if value != of_serving:
            raise NotComparable(
                f"the reports have different settings: {name} {value!r}, and {of_serving!r} for the serving model"
            )


def compare(rule: ScoreRule, rows: list[Row], serving_rows: list[Row], values: tuple[float, float], report: str) -> Comparison:
    """Compare a score with the serving model's.

    Args:
        rule: a rule about the serving model.
        rows: the checkpoint's answers for the score.
        serving_rows: the serving model's.
        values: both scores, the checkpoint's first.
        report: digest of the serving model's report.

    Raises:
        NotComparable: the items differ, or the metric has no value per item.
        TooFewItems: the smallest effect that the items can show exceeds the margin.
    """
    if not rows or not serving_rows:
        raise NotComparable(f"a report has no answers to {rule.measurement} item by item, such as the mean of a group of tasks")
    pairs = _pairs(rule, rows, serving_rows, values)
    if rule.margin >= pairs.worst:
        raise NotComparable(
            f"a margin of {rule.margin:g} allows any score: {rule.metric} has a range of {pairs.worst:g}; set a smaller one"
        )
    effect = pairs.smallest_effect()
    num_draws = len(rows) // len({row["item"] for row in rows})
    missing = 0
    if 0 < rule.margin < effect:
        missing = _missing(pairs, rule.margin, num_draws)
    comparison = Comparison(
        report=report,
        value=values[1],
        difference=pairs.mean,
        stderr=None if math.isnan(pairs.stderr) else pairs.stderr,
        low=pairs.lower_bound(),
        high=-pairs.reversed().lower_bound(),
        p_value=pairs.p_value(rule.threshold) if rule.upwards else pairs.reversed().p_value(-rule.threshold),
        num_items=len(rows) // num_draws,
        num_clusters=pairs.num_clusters,
        smallest_effect=None if math.isinf(effect) else effect,
        items_missing=missing,
    )
    if 0 < rule.margin < effect:
        raise TooFewItems(comparison=comparison)
    return comparison


def _missing(pairs: Pairs, margin: float, num_draws: int) -> int:
    if pairs.num_clusters < 2:
        return 0  # the spread is unknown
    return max(1, math.ceil((pairs.items_needed(margin) - pairs.num_items) / num_draws))


def is_significant(comparison: Comparison) -> bool:
    """Whether the difference is inside the margin, or above it, with 95 % confidence."""
    return comparison.p_value <= 1 - CONFIDENCE


def _pairs(rule: ScoreRule, rows: list[Row], serving_rows: list[Row], scores: tuple[float, float]) -> Pairs:
    pairing = pair_rows(rows, serving_rows)
    if pairing.repeated:
        raise NotComparable(f"a report has two answers to item {pairing.repeated[0]!r} of {rule.measurement}: evaluate again")
    if unpaired := sorted({*pairing.only_first, *pairing.only_second}):
        number = count(len(unpaired), "item")
        raise NotComparable(f"{number} of {rule.measurement} only in one of the reports, first {unpaired[0]!r}")
    if pairing.differing:
        name, items = next(iter(pairing.differing.items()))
        raise NotComparable(f"the inputs for item {items[0]!r} of {rule.measurement} differ between the reports: {name}")
    try:
        values, values_of_serving = ([dict(pair[side]["values"])[rule.metric] for pair in pairing.pairs] for side in (0, 1))
    except KeyError:
        raise NotComparable(
            f"{rule.metric} is a metric of the whole corpus; a comparison needs a metric with one value per item"
        ) from None
    for column, score, name in zip((values, values_of_serving), scores, ("checkpoint", "serving model"), strict=True):
        if abs(fmean(column) - score) > ROUNDING * max(1.0, abs(score)):
            raise NotComparable(
                f"the answers of the {name} have a mean of {fmean(column):.4f} for {rule.score_name}, but its score is "
                f"{score:.4f}: answers are missing or changed; evaluate again"
            )
    try:
        return Pairs.of(values, values_of_serving, [row["cluster"] for row, _ in pairing.pairs])
    except ValueError as error:
        raise NotComparable(f"the values of {rule.metric} cannot be compared: {error}") from None


def rows_of(rule: ScoreRule, split: str, table: pa.Table) -> list[Row]:
    """Return the answers that a score is the mean of."""
    import pyarrow.compute as pc

    selected = {"task": rule.task, "split": split, "shots": rule.shots, "control": rule.control}
    for name, value in selected.items():
        table = table.filter(pc.equal(table[name], value))
    rows: list[Row] = table.to_pylist()
    return rows
