"""The analyses `learning_rate` and `scaling`: laws fitted to the trained cells of a study, for the page and ``mm1 lr-fit``.

::

    learning_rate: score of each cell -> Trial -> law of each score of the study, beside the paper's
    scaling:       losses of all sizes but the largest -> curve -> prediction of the largest -> error

The prediction reads the smaller sizes alone, and carries a digest of its inputs. A study with a `target` predicts a size that
it does not train; a later study with that size as a level repeats the prediction, of the same digest, and scores it.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from pydantic import ValidationError

from mm1.config.resolve import canonical_json, explain
from mm1.errors import ConfigurationError, DataError
from mm1.store.base import digest_of
from mm1.studies.cells import StudyData
from mm1.studies.curves import level_score
from mm1.studies.fit import INTERCEPT, SLOPE, LawResult, Trial, fit_law
from mm1.studies.ladder import LadderResult, Rung, fit_curve
from mm1.studies.law_figures import ladder_figure, law_figure, rates_figure
from mm1.studies.section import Block, Section
from mm1.studies.sizes import rate_of, size_of

PAPER = "MM1"
MAX_SPREAD = 0.02
"""Tokens that differ by less than this share are the same budget, with another padding."""


def learning_rate(data: StudyData) -> Section:
    """Fit the law of the learning rate by each score of the study."""
    results = [_law(data, name) for name in data.study.scores]
    return Section(
        results={"laws": [result.model_dump(mode="json") for result in results]},
        blocks=tuple(block for result in results for block in law_blocks(result, data.name)),
    )


def scaling(data: StudyData) -> Section:
    """Predict the largest size by each loss of the study."""
    results = [_ladder(data, name) for name, score in data.study.scores.items() if score.lower_is_better]
    return Section(
        results={"ladders": [result.model_dump(mode="json") for result in results]},
        blocks=tuple(block for result in results for block in ladder_blocks(result, data.name)),
    )


def stored_blocks(section: dict[str, Any], name: str) -> list[Block]:
    """Return the blocks of results that were read from ``studies.json``.

    Args:
        section: ``section`` of a study's results; empty if the study has no analysis.
        name: name of the study.

    Raises:
        DataError: the results are damaged.
    """
    try:
        laws = [LawResult.model_validate(law) for law in section.get("laws", [])]
        ladders = [LadderResult.model_validate(ladder) for ladder in section.get("ladders", [])]
    except ValidationError as error:
        raise DataError(f"results of study {name} are damaged: {explain(error)[:200]}") from None
    blocks = [law_blocks(law, name) for law in laws] + [ladder_blocks(ladder, name) for ladder in ladders]
    return [block for group in blocks for block in group]


def is_refused(section: dict[str, Any]) -> bool:
    """Whether a law of a section could not be fitted."""
    return any(result["refused"] for kind in ("laws", "ladders") for result in section.get(kind, []))


def law_blocks(result: LawResult, name: str) -> list[Block]:
    """Show a law: its numbers beside the paper's, the best rates, and two figures."""
    title = f"Learning-rate law by {result.score}"
    if result.law is None:
        return [Block(title=title, text=f"No law: {result.refused}")]
    law = result.law
    numbers = (
        ("slope", f"{law.slope:.4f}", _interval(law.slope_interval), f"{SLOPE}"),
        ("intercept", f"{law.intercept:.4f}", _interval(law.intercept_interval), f"{INTERCEPT}"),
    )
    rates = tuple(
        (f"{point.size:,.0f}", f"{point.rate:.2e}", "–" if point.stderr is None else f"{point.stderr:.0%}")
        for point in law.optima
    )
    return [
        Block(
            title=title,
            text="ln(lr) = slope ln(N) + intercept; 95 % intervals of the linear regression over the sizes.",
            columns=("number", "here", "95 % interval", PAPER),
            rows=numbers,
            figure=law_figure(law, f"{name} {result.score}"),
        ),
        Block(
            title=f"Best rates by {result.score}",
            text="A parabola in ln(lr) through the best rate and its neighbours; relative standard errors over seeds.",
            columns=("N", "best rate", "± over seeds"),
            rows=rates,
            figure=rates_figure(law, result.score, f"{name} {result.score}"),
        ),
    ]


def ladder_blocks(result: LadderResult, name: str) -> list[Block]:
    """Show a prediction beside what was measured."""
    title = f"Prediction of the largest size by {result.score}"
    if result.prediction is None or result.curve is None:
        return [Block(title=title, text=f"No prediction: {result.refused}")]
    prediction, measured = result.prediction, list(result.measured.values())
    row = (
        f"{prediction.size:,.0f}",
        f"{prediction.loss:.3f}",
        _interval(prediction.interval, 3),
        f"{fmean(measured):.3f}" if measured else "–",
        result.verdict,
    )
    floor, scale, exponent, *_ = result.curve.parameters
    text = (
        f"L = {floor:.3f} + {scale:.3f} (N / {result.curve.centre[0]:,.0f})^-{exponent:.3f}, fitted to {len(result.rungs)} "
        f"cells of smaller sizes (digest {(result.inputs or '')[:12]}); 95 % interval by the delta method."
    )
    columns = ("N", "predicted", "95 % interval", "measured", "verdict")
    return [Block(title=title, text=text, columns=columns, rows=(row,), figure=ladder_figure(result, name))]


def _law(data: StudyData, name: str) -> LawResult:
    score = data.study.scores[name]
    try:
        trials, failed = [], []
        for level in data.study.levels:
            size, rate, values = size_of(data.study, level), rate_of(data.study, level), _by_seed(data, level, name)
            if len(values) < len(data.study.seeds):  # a rate with which a seed diverges is not the best
                failed.append((size, rate))
            else:
                trials += [Trial(size, rate, seed, value) for seed, value in values.items()]
        return LawResult(score=name, law=fit_law(trials, lower_is_better=score.lower_is_better, failed=failed))
    except ConfigurationError as error:
        return LawResult(score=name, refused=str(error))


def _ladder(data: StudyData, name: str) -> LadderResult:
    study = data.study
    try:
        sizes = {level: size_of(study, level) for level in study.levels}
        largest = "" if study.target else max(sizes, key=sizes.__getitem__)
        rungs = with_common_tokens(
            [
                Rung(size=sizes[level], tokens=data.cells[level, seed].checkpoint.tokens_seen, loss=loss)
                for level in sizes
                for seed, loss in _by_seed(data, level, name).items()
                if level != largest
            ]
        )
        curve = fit_curve(rungs)
        size = sizes[largest] if largest else size_of(study)
    except ConfigurationError as error:
        return LadderResult(score=name, refused=str(error))
    checkpoints = {f"{level} {seed}": cell.digest for (level, seed), cell in data.cells.items() if level != largest}
    return LadderResult(
        score=name,
        level=largest,
        rungs=tuple(rungs),
        inputs=digest_of(canonical_json([[rung.model_dump() for rung in rungs], checkpoints]).encode()),
        curve=curve,
        prediction=curve.predict(size, rungs[-1].tokens, len(study.seeds)),
        measured=_by_seed(data, largest, name) if largest else {},
    )


def with_common_tokens(rungs: list[Rung]) -> list[Rung]:
    """Give rungs whose tokens hardly differ the same number, so that only budgets count as different."""
    tokens = [rung.tokens for rung in rungs]
    if not rungs or max(tokens) > min(tokens) * (1 + MAX_SPREAD):
        return rungs
    return [rung.model_copy(update={"tokens": fmean(tokens)}) for rung in rungs]


def _by_seed(data: StudyData, level: str, name: str) -> dict[int, float]:
    score = level_score(data, level, data.study.scores[name])
    return score.by_seed if score else {}


def _interval(ends: tuple[float, float], digits: int = 4) -> str:
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
