"""Losses by step and scores by the number of demonstrations, per level, over seeds. Torch-free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mm1.manifests import Record
from mm1.report.measures import smoothed, thinned
from mm1.studies.cells import MissingValue, StudyData, TrainedCell
from mm1.studies.config import TERM, Score
from mm1.studies.estimates import estimate
from mm1.studies.verdict import score_parts

CURVE_POINTS = 60
"""Maximum points per curve."""
SMOOTHING_SHARE = 0.02
"""Smoothing width of the loss (standard deviation of the weights), as a fraction of all steps."""
PREFIX = "loss/"


class Curve(Record):
    """Loss of a source by step: mean and range over seeds."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    """Lowest of the seeds."""
    high: tuple[float, ...]


class LevelScore(Record):
    """A score of a level."""

    mean: float
    stderr: float | None
    """Standard error over seeds and items; None: not known."""
    by_seed: dict[int, float]
    num_items: int = 0


class ShotsPanel(Record):
    """A metric of a task by the number of demonstrations."""

    task: str
    metric: str
    levels: dict[str, dict[int, LevelScore]]
    """Level -> shots -> score."""


def level_score(data: StudyData, level: str, score: Score) -> LevelScore | None:
    """Estimate a score of a level from the seeds that were trained; None if no seed has it."""
    cells = data.of_level(level)
    if not cells:
        return None
    try:
        result = estimate([part for part, _ in score_parts(cells, score)])
    except MissingValue as error:
        data.problems.append(f"{level}: {error}")
        return None
    by_seed = dict(zip(data.seeds_of(level), result.by_seed, strict=True))
    return LevelScore(mean=result.mean, stderr=result.stderr, by_seed=by_seed, num_items=result.num_items)


def shots_panels(data: StudyData) -> list[ShotsPanel]:
    """Arrange the tasks and metrics of the study's scores by shots, if they were evaluated at several."""
    panels = []
    for task, metric in _metrics(data):
        shots = sorted({score.shots for cell in data.cells.values() for score in cell.scores if score.task == task})
        levels = {level: _by_shots(data, level, task, metric, shots) for level in data.study.levels}
        if len(shots) > 1 and any(len(scores) > 1 for scores in levels.values()):
            panels.append(ShotsPanel(task=task, metric=metric, levels={name: each for name, each in levels.items() if each}))
    return panels


def _metrics(data: StudyData) -> list[tuple[str, str]]:
    terms = [term for score in data.study.scores.values() for term in (*score.mean, *score.minus)]
    matches = [match for term in terms if (match := TERM.match(term)) and match["task"]]
    return list(dict.fromkeys((match["task"], match["metric"]) for match in matches))


def _by_shots(data: StudyData, level: str, task: str, metric: str, shots: list[int]) -> dict[int, LevelScore]:
    known = {
        score.shots
        for cell in data.of_level(level)
        for score in cell.scores
        if (score.task, score.metric, score.control) == (task, metric, "none")
    }
    terms = {number: Score(mean=(f"{task}/{number}/{metric}",)) for number in shots if number in known}
    return {number: score for number, term in terms.items() if (score := level_score(data, level, term))}


def loss_curves(data: StudyData) -> dict[str, dict[str, Curve]]:
    """Average the losses of the last pre-training over seeds: source -> level -> curve."""
    curves: dict[str, dict[str, Curve]] = {}
    for level in data.study.levels:
        for source, columns in _losses(data.of_level(level)).items():
            if curve := _curve(columns):
                curves.setdefault(source, {})[level] = curve
    return dict(sorted(curves.items()))


Columns = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and losses of a seed, each (T,)."""


def _losses(cells: list[TrainedCell]) -> dict[str, list[Columns]]:
    losses: dict[str, list[Columns]] = {}
    for cell in cells:
        for name, values in cell.history.items():
            if name.startswith(PREFIX) and np.isfinite(values).any():
                losses.setdefault(name.removeprefix(PREFIX), []).append((cell.history["step"], values))
    return losses


def _curve(seeds: list[Columns]) -> Curve | None:
    num_steps = min(steps.size for steps, _ in seeds)
    if num_steps < 2:
        return None
    width = max(1.0, SMOOTHING_SHARE * num_steps)
    smooth_ST = np.stack([smoothed(values, width)[:num_steps] for _, values in seeds])
    points = thinned(num_steps, CURVE_POINTS)
    points = points[np.isfinite(smooth_ST[:, points]).all(axis=0)]
    if not points.size:
        return None
    chosen_ST = smooth_ST[:, points].round(5)
    return Curve(
        steps=tuple(int(step) for step in seeds[0][0][points]),
        mean=tuple(chosen_ST.mean(axis=0).round(5).tolist()),
        low=tuple(chosen_ST.min(axis=0).tolist()),
        high=tuple(chosen_ST.max(axis=0).tolist()),
    )
