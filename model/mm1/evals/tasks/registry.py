"""Tasks by name: the built-in ones, and any other pair of files in a benchmark folder."""

from __future__ import annotations

from dataclasses import replace

from mm1.config.resolve import suggest
from mm1.config.values import parse_integer, quoted
from mm1.errors import ConfigurationError
from mm1.evals.items import BenchmarkFolder
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.captions import captions, captions_heldout
from mm1.evals.tasks.instruct import instruct
from mm1.evals.tasks.questions import novel, vague, vqa, vqa_heldout
from mm1.evals.tasks.text import text

TASKS: dict[str, Task] = {
    task.name: task for task in (captions, captions_heldout, vqa, vqa_heldout, vague, novel, text, instruct)
}


def find_task(name: str, folder: BenchmarkFolder) -> Task:
    """Find a task by name, with the shots in the name if there are any (``novel@4,8``).

    Raises:
        ConfigurationError: the task is unknown and the folder has no files of that name, or the shots are not numbers.
    """
    base, shots = parse_name(name)
    task = TASKS.get(base) or _from_files(base, folder)
    return task if shots is None else replace(task, shots=shots)


def known_task(name: str) -> Task:
    """Find a built-in task by name.

    Raises:
        ConfigurationError: the task is unknown, or the shots are not numbers.
    """
    base, _ = parse_name(name)
    if base not in TASKS:
        raise ConfigurationError(f"unknown task {base!r}; {suggest(base, list(TASKS))}")
    return TASKS[base]


def parse_name(name: str) -> tuple[str, tuple[int, ...] | None]:
    """Split ``novel@4,8`` into name and shots; the shots are None if the name has none.

    Raises:
        ConfigurationError: the shots are not numbers.
    """
    base, separator, shots = name.partition("@")
    if not separator:
        return base, None
    try:
        return base, tuple(map(parse_integer, shots.split(",")))
    except ValueError:
        raise ConfigurationError(
            f"task {quoted(name)}: expected numbers of demonstrations after @, for example vqa@0,4"
        ) from None


def parse_shots(text: str) -> tuple[int, ...]:
    """Parse numbers of demonstrations, separated by spaces.

    Raises:
        ConfigurationError: the text is something else.
    """
    try:
        return tuple(map(parse_integer, text.split()))
    except ValueError:
        raise ConfigurationError(
            f"shots: expected numbers separated by spaces, for example '0 4 8', got {quoted(text)}"
        ) from None


def shots_of(name: str, shots: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return the name of a task without its shots, and the shots at which an evaluation runs it.

    Args:
        name: such as ``vqa`` or ``vqa@0,4``.
        shots: the evaluation's shots, for tasks without fixed ones.
    """
    base, own = parse_name(name)
    fixed = TASKS[base].shots if base in TASKS else None
    return base, next(numbers for numbers in (own, fixed, shots) if numbers is not None)


def planned_scores(tasks: str, shots: str, controls: bool) -> set[str]:
    """List the scores of an evaluation: ``task/shots``, and ``task/shots/shuffled`` for an image-shuffled control.

    Args:
        tasks: names of tasks, separated by spaces.
        shots: numbers of demonstrations, separated by spaces.
        controls: whether the evaluation includes controls.
    """
    scores = set()
    for name in tasks.split():
        base, numbers = shots_of(name, parse_shots(shots))
        controlled = TASKS[base].control_shots if base in TASKS else None
        scores |= {f"{base}/{number}" for number in numbers}
        if controls:
            scores |= {f"{base}/{number}/shuffled" for number in numbers if controlled is None or number in controlled}
    return scores


def metrics_of(name: str) -> list[str]:
    """List the metrics of a task; for a task of a benchmark folder, those of all file formats."""
    return [*TASKS[name].metrics] if name in TASKS else sorted({*vqa.metrics, *captions.metrics, *text.metrics})


def _from_files(name: str, folder: BenchmarkFolder) -> Task:
    if name in folder.tasks:
        for suffix, base in (("_questions.json", vqa), (".json", captions), (".jsonl", text)):
            if folder.has(name + suffix):
                return replace(base, name=name, summary=f"{name}, evaluated like {base.name}", control_shots=None)
    known = sorted({*TASKS, *folder.tasks})
    raise ConfigurationError(
        f"task {name!r}: neither a known task nor files {name}_questions.json and {name}_annotations.json in {folder.folder}; "
        f"{suggest(name, known)}"
    )
