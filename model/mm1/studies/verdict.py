"""Verdicts on the claims of a study, computed from the trained cells. Torch-free.

::

    cells -> parts of the effect (level x term x seed x item) -> Estimate -> p-values -> Holm -> Verdict

A claim that one level is better is *shown* if the effect is significant and at least the smallest effect of interest,
*opposite* if it is significant in the other direction, and otherwise *not shown*. A claim that two levels are equal is shown by
two one-sided tests against the smallest effect of interest. Claims about cells that failed are *incomplete*; they are not
tested.

P-values are corrected for the number of claims of the study (Holm 1979). The study is the family because its claims are fixed
in one file before the run; with a family of all studies of a run, a verdict would depend on which studies were run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from mm1.manifests import Record
from mm1.studies.cells import MissingValue, StudyData, TrainedCell, Values
from mm1.studies.config import Claim, Score
from mm1.studies.estimates import CONFIDENCE, ROUNDING, Estimate, Part, estimate

ALPHA = 1 - CONFIDENCE
Outcome = Literal["shown", "opposite", "not shown", "incomplete"]


class Verdict(Record):
    """A claim with what the run showed; numbers are in units of the score, and positive in the claimed direction."""

    claim: Claim
    outcome: Outcome
    reason: str = ""
    """Why it is not shown or incomplete, or a restriction of what is shown."""
    effect: float | None = None
    stderr: float | None = None
    """Standard error over seeds and items; None: not known."""
    df: float | None = None
    """Degrees of freedom of the error."""
    low: float | None = None
    """Lower end of the 95 % interval, not corrected for the number of claims."""
    high: float | None = None
    by_seed: dict[int, float] = Field({})
    """Seed -> effect."""
    p_value: float | None = None
    p_study: float | None = None
    """Corrected for the claims of the study; the verdict depends on it."""
    p_run: float | None = None
    """Corrected for all claims of the run."""
    detectable: float | None = None
    """Smallest true effect that is significant after the correction with a probability of 80 %; for equality, the smallest
    margin within which it can be shown."""
    num_items: int = 0
    num_clusters: int = 0
    over: str = ""
    """What the error covers: seeds and items, items, or seeds."""
    missing: tuple[str, ...] = ()
    """Cells of the claim that failed."""

    @property
    def errors(self) -> float | None:
        """Effect in standard errors; None if there is no error."""
        return self.effect / self.stderr if self.effect is not None and self.stderr else None

    @property
    def sentence(self) -> str:
        """The verdict on one line: outcome, effect with its error, and the reason."""
        if self.effect is None:
            return f"{self.outcome}: {self.reason}"
        error = f" ± {self.stderr:.3g}" if self.stderr is not None else ""
        return f"{self.outcome}: {self.effect:+.3f}{error}" + (f"; {self.reason}" if self.reason else "")


def judge(data: StudyData) -> list[Verdict]:
    """Judge the claims of a study, in their order."""
    effects = [effect_of(data, claim) for claim in data.study.claims]
    pairs = zip(effects, data.study.claims, strict=True)
    p_values = [_p_value(effect, claim) for effect, claim in pairs if isinstance(effect, Estimate)]
    corrected = iter(zip(p_values, holm(p_values), strict=True))
    verdicts = []
    for claim, effect in zip(data.study.claims, effects, strict=True):
        if isinstance(effect, Estimate):
            verdicts.append(_verdict(data, claim, effect, *next(corrected), num_tested=len(p_values)))
        else:
            verdicts.append(Verdict(claim=claim, outcome="incomplete", reason=effect[0], missing=effect[1]))
    return verdicts


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979), in the same order."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def corrected_for_run(studies: Sequence[Sequence[Verdict]]) -> list[tuple[Verdict, ...]]:
    """Add the p-values corrected for all claims of a run."""
    tested = [verdict.p_value for verdicts in studies for verdict in verdicts if verdict.p_value is not None]
    corrected = iter(holm(tested))
    return [
        tuple(v if v.p_value is None else v.model_copy(update={"p_run": next(corrected)}) for v in verdicts)
        for verdicts in studies
    ]


# -- effects ---------------------------------------------------------------------------------------------------------------


def effect_of(data: StudyData, claim: Claim) -> Estimate | tuple[str, tuple[str, ...]]:
    """Estimate the effect of a claim, positive in the claimed direction.

    Returns:
        The estimate; or why there is none, and the cells that are missing.
    """
    levels = dict.fromkeys((claim.better, claim.than))
    keys = [(level, seed) for level in levels for seed in data.study.seeds]
    if missing := tuple(data.missing[key] for key in keys if key in data.missing):
        return f"no result of {', '.join(missing)}", missing
    score, other = data.study.scores[claim.score], data.study.scores[claim.than_score or claim.score]
    sign = -1.0 if score.lower_is_better else 1.0
    try:
        better = score_parts(data.of_level(claim.better), score, sign)
        than = score_parts(data.of_level(claim.than), other, -sign)
    except MissingValue as error:
        return str(error), ()
    if claim.than_score in ("", claim.score) and _items(better) != _items(than):
        return f"{claim.better} and {claim.than} answered different items", ()
    return estimate([part for part, _ in (*better, *than)])


def score_parts(cells: Sequence[TrainedCell], score: Score, sign: float = 1.0) -> list[tuple[Part, tuple[str, ...]]]:
    """Return the parts of a score of one level, with their items.

    Args:
        cells: the cells of the level, one per seed.
        score: the score.
        sign: factor of all weights.

    Raises:
        MissingValue: a cell does not have a value, or its items differ from those of another seed.
    """
    weights = [(term, sign / len(score.mean)) for term in score.mean]
    weights += [(term, -sign / len(score.minus)) for term in score.minus]
    return [_part(cells, term, weight) for term, weight in weights]


def _part(cells: Sequence[TrainedCell], term: str, weight: float) -> tuple[Part, tuple[str, ...]]:
    values = [_values(cell, term) for cell in cells]
    if any(other.items != values[0].items for other in values):
        raise MissingValue(f"{term}: the seeds answered different items")
    stacked_SN = np.stack([each.values for each in values])
    return Part(weight=weight, values=stacked_SN, clusters=values[0].clusters), values[0].items


def _values(cell: TrainedCell, term: str) -> Values:
    try:
        return cell.values(term)
    except MissingValue as error:
        raise MissingValue(f"{cell.cell.name}: {error}") from None


def _items(parts: Sequence[tuple[Part, tuple[str, ...]]]) -> list[tuple[str, ...]]:
    return [items for _, items in parts]


# -- verdicts --------------------------------------------------------------------------------------------------------------


def _p_value(effect: Estimate, claim: Claim) -> float:
    """Return the p-value of the hypothesis that the data contradict most.

    Better: no difference, two-sided. Equal: the smaller of the p-values of a difference and of equality, of which only one can
    be significant by mistake.
    """
    if claim.kind == "equal":
        return min(_p_equal(effect, claim.effect), _p_different(effect, claim.effect))
    return min(1.0, 2 * min(effect.p_above(0.0), effect.p_below(0.0)))


def _p_equal(effect: Estimate, margin: float) -> float:
    return max(effect.p_above(-margin), effect.p_below(margin))


def _p_different(effect: Estimate, margin: float) -> float:
    return min(1.0, 2 * min(effect.p_above(margin), effect.p_below(-margin)))


def _verdict(data: StudyData, claim: Claim, effect: Estimate, p_value: float, p_study: float, num_tested: int) -> Verdict:
    level = ALPHA / num_tested
    detectable = effect.provable_margin(level) if claim.kind == "equal" else effect.detectable(level)
    outcome, reason = _outcome(effect, claim, p_study <= ALPHA, detectable)
    interval = effect.interval()
    one_seed = len(data.study.seeds) == 1 and effect.over == "items"
    remarks = [reason, "one seed: the error is over items only" if one_seed else ""]
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason="; ".join(filter(None, remarks)),
        effect=effect.mean,
        stderr=effect.stderr,
        df=effect.df,
        low=interval and interval[0],
        high=interval and interval[1],
        by_seed=dict(zip(data.study.seeds, effect.by_seed, strict=True)),
        p_value=p_value,
        p_study=p_study,
        detectable=detectable,
        num_items=effect.num_items,
        num_clusters=effect.num_clusters,
        over=effect.over,
    )


def _outcome(effect: Estimate, claim: Claim, significant: bool, detectable: float | None) -> tuple[Outcome, str]:
    if detectable is None:
        return "not shown", "no error is known: one seed, or no difference between seeds, and no two items of different images"
    if claim.kind == "equal":
        return _outcome_of_equality(effect, claim, significant, detectable)
    if significant and effect.mean < 0:
        return "opposite", ""
    if significant and effect.mean >= claim.effect * (1 - ROUNDING):
        return "shown", ""
    limit = f"smallest detectable effect {detectable:.3g}"
    if significant:
        return "not shown", f"real, but smaller than the effect of interest, {claim.effect:g}"
    interval = effect.interval()
    if interval and interval[1] < claim.effect:
        return "not shown", f"an effect of {claim.effect:g} is outside the 95 % interval ({limit})"
    return "not shown", f"too noisy for an effect of {claim.effect:g} ({limit})"


def _outcome_of_equality(effect: Estimate, claim: Claim, significant: bool, margin: float) -> tuple[Outcome, str]:
    equal = _p_equal(effect, claim.effect) < _p_different(effect, claim.effect)
    if significant:
        return ("shown", "") if equal else ("opposite", f"the difference is larger than {claim.effect:g}")
    if margin > claim.effect:
        return "not shown", f"too noisy: equality could be shown within {margin:.3g}, not within {claim.effect:g}"
    return "not shown", f"the difference can be larger than {claim.effect:g}"
