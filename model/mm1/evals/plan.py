"""The plan of an evaluation: every prompt, before the first one runs, so that errors in the files surface at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import Choose, EvalConfig
from mm1.evals.demonstrations import DemonstrationPool, choose_items, distinct, shuffled_images
from mm1.evals.items import Item
from mm1.evals.metrics import chance_level
from mm1.evals.prompts import PromptWriter
from mm1.evals.similarity import Embed, Similarity
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.groups import expand
from mm1.evals.tasks.names import parse_name
from mm1.evals.tasks.registry import find_task
from mm1.generation.prompt import AnyPrompt, Image

log = logging.getLogger(__name__)

Control = Literal["none", "shuffled", "text_demonstrations"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An item with the complete input of the model."""

    item: Item
    control: Control
    draw: int
    """Number of the draw of demonstrations."""
    demonstrations: tuple[Item, ...]
    images: tuple[Image, ...]
    """The query images in the prompt."""
    request: AnyPrompt


@dataclass(frozen=True, kw_only=True)
class Round:
    """A task at one number of shots."""

    task: Task
    split: str
    shots: int
    trials: tuple[Trial, ...]
    """By control, then by draw, then by item."""
    writer: PromptWriter
    chance: float | None
    choose: Choose = "likelihood"

    def choices(self, trial: Trial) -> tuple[str, ...]:
        """Return the choices to compare by likelihood; empty if the model generates its answer."""
        return trial.item.choices if self.choose == "likelihood" else ()


def plan(benchmarks: BenchmarkFolder, config: EvalConfig, embed: Embed | None = None) -> list[Round]:
    """Read the benchmark files and write all prompts.

    Args:
        benchmarks: the files.
        config: the evaluation.
        embed: features of images for similar demonstrations; without it, thumbnails are compared.

    Raises:
        ConfigurationError: a task is unknown, a file is missing, or demonstrations are too few.
        DataError: a file is damaged, or has no items.
    """
    return [item for name in expand(config.tasks) for item in _rounds(name, benchmarks, config, embed)]


def _rounds(name: str, benchmarks: BenchmarkFolder, config: EvalConfig, embed: Embed | None) -> list[Round]:
    task = find_task(name, benchmarks)
    split = task.split(benchmarks, parse_name(name).split)
    shots = config.shots if task.shots is None else task.shots
    every_item = task.items(benchmarks, split)
    if not task.splits:  # of a published benchmark all items count, as for everybody, and a test server takes no fewer
        every_item = distinct(every_item)
    items = choose_items(every_item, config.items or len(every_item), config.seed, task.name)
    if len(items) < (config.items or 0):
        log.info("task %s has only %d items", task.name, len(items))
    text_shots = config.text_demonstrations if 0 in shots and any(item.images for item in items) else 0
    demonstrations = task.demonstrations(benchmarks, split) if any(shots) or text_shots else []
    similarity = Similarity(embed) if config.selection == "similar" else None
    pool = DemonstrationPool(task.name, demonstrations, task.same_type, task.balanced, similarity)
    writer = PromptWriter.of(task, config)
    chance = _chance(task, items, demonstrations)
    rounds = []
    for number in shots:
        trials = _trials(items, number, _image_sets(task, items, number, config), pool, writer, config)
        if number == 0 and text_shots:
            trials += _without_images(items, text_shots, pool, writer, config)
        rounds.append(
            Round(
                task=task,
                split=split,
                shots=number,
                trials=tuple(trials),
                writer=writer,
                chance=chance,
                choose=config.choose,
            )
        )
    return rounds


def _image_sets(task: Task, items: Sequence[Item], shots: int, config: EvalConfig) -> dict[Control, list[tuple[Image, ...]]]:
    sets: dict[Control, list[tuple[Image, ...]]] = {"none": [item.images for item in items]}
    controlled = config.controls and (task.control_shots is None or shots in task.control_shots)
    if controlled and all(item.images for item in items):
        sets["shuffled"] = shuffled_images(items, config.seed, task.name)
    return sets


def _trials(
    items: Sequence[Item],
    shots: int,
    image_sets: dict[Control, list[tuple[Image, ...]]],
    pool: DemonstrationPool,
    writer: PromptWriter,
    config: EvalConfig,
) -> list[Trial]:
    draws = [[pool.draw(item, shots, config.seed, draw) for item in items] for draw in range(config.draws if shots else 1)]
    return [
        Trial(
            item=item,
            control=control,
            draw=draw,
            demonstrations=examples,
            images=images,
            request=writer.request(item, examples, images),
        )
        for control, query_images in image_sets.items()
        for draw, drawn in enumerate(draws)
        for item, examples, images in zip(items, drawn, query_images, strict=True)
    ]


def _without_images(
    items: Sequence[Item], shots: int, pool: DemonstrationPool, writer: PromptWriter, config: EvalConfig
) -> list[Trial]:
    """Return 0-shot trials whose demonstrations have no images, as Flamingo's 0-shot."""
    trials = _trials(items, shots, {"text_demonstrations": [item.images for item in items]}, pool, writer, config)
    without = []
    for trial in trials:
        imageless = tuple(replace(example, images=()) for example in trial.demonstrations)
        request = writer.request(trial.item, imageless, trial.images)
        without.append(replace(trial, demonstrations=imageless, request=request))
    return without


def _chance(task: Task, items: Sequence[Item], demonstrations: Sequence[Item]) -> float | None:
    if not all(item.references for item in items):
        return None
    if task.form == "question":
        return chance_level(items, demonstrations)
    return chance_level(items, ()) if all(item.choices for item in items) else None
