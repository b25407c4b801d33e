"""The few-shot harness: benchmark files and a model in, scores and answers out.

    files -> items, demonstrations -> prompts (0, 4, 8 shots; control: query image swapped) -> answers -> metrics

An item with choices is answered by the likeliest of them, any other by greedy generation. Item and control share their
demonstrations, which are processed once for both. Protocol: MM1, appendix C (greedy, random demonstrations, a true 0-shot).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mm1.evals.asking import OnProgress, Part, answer, parts_of
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.choosing import named_choice
from mm1.evals.config import EvalConfig
from mm1.evals.grading import Grading, Judge, relative_grade
from mm1.evals.metrics import CorpusMetric, ItemMetric
from mm1.evals.metrics.choices import best_choice
from mm1.evals.models.base import EvalModel
from mm1.evals.plan import Control, Round, Trial, plan
from mm1.evals.replies import KeptReplies, Reply
from mm1.evals.statistics import bootstrap_stderr, mean_and_stderr
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.groups import group_scores
from mm1.generation.prompt import Completion, Likelihood
from mm1.manifests import Score

log = logging.getLogger(__name__)

OfRows = Callable[[Sequence[int]], float]
"""Row numbers -> the metric of these answers together."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's answer in a trial."""

    trial: Trial
    completion: Completion | None
    """The generated text; None if the model chose by likelihood."""
    likelihoods: tuple[Likelihood, ...]
    """Of the item's choices."""
    prediction: str
    """The answer in the generated text, or the likeliest choice."""
    values: dict[str, float]
    """Metric -> value."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """All answers of a task at one number of shots, with or without the control."""

    task: Task
    split: str
    shots: int
    control: Control
    answers: tuple[Answer, ...]
    """By draw, then by item."""
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation."""

    results: tuple[TaskResult, ...]
    files: tuple[Path, ...]
    """Benchmark files used: annotations and images, sorted."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """All scores, in the order of tasks and shots, then the means over groups of tasks."""
        scores = [score for result in self.results for score in result.scores]
        return (*scores, *group_scores(scores, {result.task.name: result.task.headline for result in self.results}))


def evaluate(
    model: EvalModel,
    benchmarks: Path,
    split: str,
    config: EvalConfig,
    on_progress: OnProgress,
    kept: KeptReplies | None = None,
    judge: Judge | None = None,
) -> Evaluation:
    """Evaluate a model.

    Args:
        model: the model.
        benchmarks: folder of benchmark files.
        split: subfolder of tasks in this project's layout.
        config: tasks, shots, items, style.
        on_progress: called after each batch.
        kept: replies of earlier runs and of other processes, which are not asked for again.
        judge: grades free answers; without it, tasks whose answers it grades have no scores.

    Raises:
        ConfigurationError: a task is unknown, a file is missing, demonstrations are too few, or a prompt exceeds the context.
        DataError: a file or an image is damaged.
    """
    folder = BenchmarkFolder(benchmarks, split)
    rounds = plan(folder, config, model.embed_images)
    parts = parts_of(rounds)
    return judge_all(folder, rounds, parts, answer(parts, lambda: model, on_progress, kept), judge)


def judge_all(
    folder: BenchmarkFolder,
    rounds: Sequence[Round],
    parts: Sequence[Part],
    replies: Iterable[Sequence[Reply]],
    judge: Judge | None = None,
) -> Evaluation:
    """Compute the metrics of each round when its parts are answered."""
    results: list[TaskResult] = []
    for number, group in groupby(zip(parts, replies, strict=True), key=lambda pair: pair[0].round):
        by_position = {position: reply for part, some in group for position, reply in zip(part.positions, some, strict=True)}
        outcome = results_of(rounds[number], [by_position[position] for position in range(len(by_position))], judge)
        log.info("%s", ", ".join(f"{_label(score)} {score.value:.3f}" for result in outcome for score in result.scores))
        results += outcome
    return Evaluation(results=tuple(results), files=files_of(folder, rounds))


def _label(score: Score) -> str:
    return f"{score.task}/{score.shots}/{score.metric}" + ("" if score.control == "none" else f" ({score.control})")


def files_of(folder: BenchmarkFolder, rounds: Sequence[Round]) -> tuple[Path, ...]:
    """Return the benchmark files that an evaluation uses: annotations and images, sorted."""
    trials = [trial for item in rounds for trial in item.trials]
    images = [image for trial in trials for image in trial.images]
    images += [image for trial in trials for example in trial.demonstrations for image in example.images]
    return tuple(sorted(folder.used | {image for image in images if isinstance(image, Path)}))


# -- judging ------------------------------------------------------------------------------------------------------------


def results_of(planned: Round, replies: Sequence[Reply], judge: Judge | None = None) -> list[TaskResult]:
    """Compute the metrics of a round's replies: one result per control."""
    if planned.task.grading and judge is None:
        log.warning("task %s: its answers get no score; name a judge (--judge)", planned.task.name)
    pairs = zip(planned.trials, replies, strict=True)
    by_control = groupby(pairs, key=lambda pair: pair[0].control)
    return [_result(planned, control, list(group), judge) for control, group in by_control]


def _result(planned: Round, control: Control, pairs: Sequence[tuple[Trial, Reply]], judge: Judge | None) -> TaskResult:
    task, trials = planned.task, [trial for trial, _ in pairs]
    predictions = [_prediction(planned, trial, reply) for trial, reply in pairs]
    values = _values(task.metrics, predictions, trials)
    if task.normalised_metrics:
        normalised = [_prediction(planned, trial, reply, normalised=True) for trial, reply in pairs]
        values |= _values(task.normalised_metrics, normalised, trials)
    if task.grading and judge:
        values |= _grades(task.grading, judge, predictions, trials)
    answers = tuple(
        Answer(
            trial=trial,
            completion=reply if isinstance(reply, Completion) else None,
            likelihoods=() if isinstance(reply, Completion) else reply,
            prediction=prediction,
            values={name: column[row] for name, column in values.items()},
        )
        for row, ((trial, reply), prediction) in enumerate(zip(pairs, predictions, strict=True))
    )
    scores = _scores(planned, control, trials, predictions, values) if all(trial.item.references for trial in trials) else ()
    return TaskResult(
        task=task, split=planned.split, shots=planned.shots, control=control, answers=answers, scores=tuple(scores)
    )


def _prediction(planned: Round, trial: Trial, reply: Reply, *, normalised: bool = False) -> str:
    """Return the answer: the one in the generated text, or the choice with the highest log-likelihood (per character)."""
    choices = trial.item.choices
    if isinstance(reply, Completion):
        extracted = planned.task.extract(reply.text, trial.item)
        return named_choice(extracted, choices) if choices else extracted
    return choices[best_choice([each.logprob for each in reply], choices, "characters" if normalised else "none")]


def _values(metrics: dict[str, ItemMetric], predictions: Sequence[str], trials: Sequence[Trial]) -> dict[str, list[float]]:
    """Compute metrics of items; draw by draw, since a metric such as CIDEr-D counts over all items of a draw.

    Items without references have no values.
    """
    columns: dict[str, list[float]] = {name: [] for name in metrics}
    if not all(trial.item.references for trial in trials):
        return {}
    pairs = zip(trials, predictions, strict=True)
    for _, group in groupby(pairs, key=lambda pair: pair[0].draw):
        rows = list(group)
        for name, metric in metrics.items():
            columns[name] += metric([prediction for _, prediction in rows], [trial.item for trial, _ in rows])
    return columns


def _grades(grading: Grading, judge: Judge, predictions: Sequence[str], trials: Sequence[Trial]) -> dict[str, list[float]]:
    grades = judge.grade(grading, predictions, [trial.item for trial in trials])
    names = [name for name in grading.metric_names if name in grading.names]
    return {name: [each[name] for each in grades] for name in names}


def _scores(
    planned: Round,
    control: Control,
    trials: Sequence[Trial],
    predictions: Sequence[str],
    values: dict[str, list[float]],
) -> list[Score]:
    clusters = [trial.item.cluster for trial in trials]
    num_draws = len({trial.draw for trial in trials})
    numbers = {name: mean_and_stderr(column, clusters, num_draws) for name, column in values.items()}
    for name, of_rows in _corpus_metrics(planned.task, trials, predictions, values).items():
        numbers[name] = (of_rows(range(len(trials))), bootstrap_stderr(of_rows, clusters))
    return [
        Score(
            task=planned.task.name,
            split=planned.split,
            metric=name,
            shots=planned.shots,
            control=control,
            value=value,
            stderr=stderr,
            num_items=len(trials) // num_draws,
            chance=planned.chance if name == "accuracy" else None,
        )
        for name, (value, stderr) in numbers.items()
    ]


def _corpus_metrics(
    task: Task, trials: Sequence[Trial], predictions: Sequence[str], values: dict[str, list[float]]
) -> dict[str, OfRows]:
    """Return the metrics of all answers together, as functions of the rows that they count."""

    def on_answers(metric: CorpusMetric) -> OfRows:
        return lambda rows: metric([predictions[row] for row in rows], [trials[row].item for row in rows])

    metrics = {name: on_answers(metric) for name, metric in task.corpus_metrics.items()}
    if task.grading and task.grading.relative and values:
        own, reference = (values[name] for name in task.grading.relative)
        metrics["relative_grade"] = lambda rows: relative_grade([own[row] for row in rows], [reference[row] for row in rows])
    return metrics
