"""The few-shot harness: benchmark files and a model in, scores and answers out.

    files -> items, demonstrations -> prompts (0, 4, 8 shots; control: query image swapped) -> answers -> metrics

An item with choices is answered by the likeliest of them, any other by greedy generation. Item and control share their
demonstrations, which are processed once for both. Protocol: MM1 5.1 (greedy, random demonstrations, a true 0-shot).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mm1.errors import DataError
from mm1.evals.config import EvalConfig
from mm1.evals.items import BenchmarkFolder, Item
from mm1.evals.metrics import chance_level, mean_and_stderr
from mm1.evals.prompts import DemonstrationPool, PromptWriter, choose_items, shuffled_images
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.registry import find_task
from mm1.generation.generator import Generator
from mm1.generation.prompt import Request
from mm1.manifests import Score

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""Called with the number of prompts answered so far and the total number."""
Control = Literal["none", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An item with the complete input of the model."""

    item: Item
    control: Control
    demonstrations: tuple[Item, ...]
    image: Path | None
    """The query image in the prompt."""
    request: Request


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's answer in a trial."""

    trial: Trial
    prediction: str
    values: dict[str, float]
    """Metric -> value."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """All answers of a task at one number of shots, with or without the control."""

    task: Task
    shots: int
    control: Control
    answers: tuple[Answer, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation."""

    results: tuple[TaskResult, ...]
    files: tuple[Path, ...]
    """Benchmark files used: annotations and images, sorted."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """All scores, in the order of tasks and shots."""
        return tuple(score for result in self.results for score in result.scores)


@dataclass(frozen=True, kw_only=True)
class _Round:
    """A task at one number of shots."""

    task: Task
    shots: int
    trials: tuple[Trial, ...]
    writer: PromptWriter
    chance: float | None


def evaluate(generator: Generator, benchmarks: Path, split: str, config: EvalConfig, on_progress: OnProgress) -> Evaluation:
    """Evaluate a model.

    Args:
        generator: the model.
        benchmarks: folder with one subfolder per split.
        split: the subfolder.
        config: tasks, shots, items, style.
        on_progress: called after each batch.

    Raises:
        ConfigurationError: a task is unknown, a file is missing, demonstrations are too few, or a prompt exceeds the context.
        DataError: a file or an image is damaged.
    """
    folder = BenchmarkFolder(benchmarks, split)
    tasks = [find_task(name, folder) for name in config.tasks]
    # All prompts are built before the first one runs, so that errors in the files surface at once.
    rounds = [item for task in tasks for item in _plan(task, folder, config, generator)]
    total, done = sum(len(item.trials) for item in rounds), 0
    results: list[TaskResult] = []
    for item in rounds:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            on_progress(done, total)

        outcome = _run(item, split, generator, on_batch)
        log.info("%s", ", ".join(f"{_label(score)} {score.value:.3f}" for result in outcome for score in result.scores))
        results += outcome
    return Evaluation(results=tuple(results), files=_files(folder, rounds))


def _label(score: Score) -> str:
    return f"{score.task}/{score.shots}/{score.metric}" + ("" if score.control == "none" else f" ({score.control})")


# -- planning -----------------------------------------------------------------------------------------------------------


def _plan(task: Task, folder: BenchmarkFolder, config: EvalConfig, generator: Generator) -> list[_Round]:
    shots = config.shots if task.shots is None else task.shots
    every_item = task.items(folder)
    if not every_item:
        raise DataError(f"task {task.name}: its files in {folder.folder} contain no items")
    items = choose_items(every_item, config.items, config.seed, task.name)
    if len(items) < config.items:
        log.info("task %s has only %d items", task.name, len(items))
    demonstrations = task.demonstrations(folder) if any(shots) else []
    pool = DemonstrationPool(task.name, demonstrations)
    writer = PromptWriter.of(task, config.style, config.templates, generator.processor)
    chance = chance_level(items, demonstrations) if task.form == "question" else _choice_chance(items)
    has_images = all(item.image is not None for item in items)
    rounds = []
    for number in shots:
        controlled = config.controls and has_images and (task.control_shots is None or number in task.control_shots)
        images: dict[Control, list[Path | None]] = {"none": [item.image for item in items]}
        if controlled:
            images["shuffled"] = shuffled_images(items, config.seed, task.name)
        drawn = [pool.draw(item, number, config.seed) for item in items]
        trials = tuple(
            Trial(
                item=item,
                control=control,
                demonstrations=examples,
                image=image,
                request=writer.request(item, examples, image),
            )
            for control, query_images in images.items()
            for item, examples, image in zip(items, drawn, query_images, strict=True)
        )
        rounds.append(_Round(task=task, shots=number, trials=trials, writer=writer, chance=chance))
    return rounds


def _choice_chance(items: Sequence[Item]) -> float | None:
    return chance_level(items, ()) if all(item.choices for item in items) else None


def _files(folder: BenchmarkFolder, rounds: Sequence[_Round]) -> tuple[Path, ...]:
    images = [trial.image for item in rounds for trial in item.trials]
    images += [demonstration.image for item in rounds for trial in item.trials for demonstration in trial.demonstrations]
    return tuple(sorted(folder.used | {image for image in images if image is not None}))


# -- running ------------------------------------------------------------------------------------------------------------


def _run(planned: _Round, split: str, generator: Generator, on_batch: Callable[[int], None]) -> list[TaskResult]:
    free = [trial for trial in planned.trials if not trial.item.choices]
    chosen = [trial for trial in planned.trials if trial.item.choices]
    predictions: dict[int, str] = {}
    stop = planned.writer.stop + (planned.task.stop if planned.writer.style == "plain" else ())
    completions = generator.generate(
        [trial.request for trial in free], max_new_tokens=planned.task.max_new_tokens, stop=stop, on_batch=on_batch
    )
    predictions |= {id(trial): completion.text for trial, completion in zip(free, completions, strict=True)}
    likelihoods = generator.score(
        [trial.request for trial in chosen],
        [[planned.writer.continuation(trial.item, choice) for choice in trial.item.choices] for trial in chosen],
        on_batch,
    )
    for trial, scores in zip(chosen, likelihoods, strict=True):
        predictions[id(trial)] = trial.item.choices[scores.index(max(scores))]
    controls: tuple[Control, ...] = ("none", "shuffled")
    grouped = [[trial for trial in planned.trials if trial.control == control] for control in controls]
    return [_judge(planned, split, trials, [predictions[id(trial)] for trial in trials]) for trials in grouped if trials]


def _judge(planned: _Round, split: str, trials: Sequence[Trial], predictions: Sequence[str]) -> TaskResult:
    items = [trial.item for trial in trials]
    values = {name: metric(predictions, items) for name, metric in planned.task.metrics.items()}
    scores = []
    for metric, column in values.items():
        value, stderr = mean_and_stderr(column)
        scores.append(
            Score(
                task=planned.task.name,
                split=split,
                metric=metric,
                shots=planned.shots,
                control=trials[0].control,
                value=value,
                stderr=stderr,
                num_items=len(items),
                chance=planned.chance if metric == "accuracy" else None,
            )
        )
    answers = tuple(
        Answer(trial=trial, prediction=prediction, values={name: column[row] for name, column in values.items()})
        for row, (trial, prediction) in enumerate(zip(trials, predictions, strict=True))
    )
    return TaskResult(task=planned.task, shots=planned.shots, control=trials[0].control, answers=answers, scores=tuple(scores))
