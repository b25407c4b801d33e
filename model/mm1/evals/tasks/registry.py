"""Tasks by name: the built-in ones, and any other pair of files in a benchmark folder."""

from __future__ import annotations

from dataclasses import replace

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.evals.files import BenchmarkFolder
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.captions import captions, captions_heldout
from mm1.evals.tasks.instruct import instruct
from mm1.evals.tasks.names import parse_name, parse_shots
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
    base, _, shots = parse_name(name)
    task = TASKS.get(base) or _from_files(base, folder)
    return task if shots is None else replace(task, shots=shots)


def known_task(name: str) -> Task:
    """Find a built-in task by name.

    Raises:
        ConfigurationError: the task is unknown, or the shots are not numbers.
    """
    base = parse_name(name).base
    if base not in TASKS:
        raise ConfigurationError(f"unknown task {base!r}; {suggest(base, list(TASKS))}")
    return TASKS[base]


def shots_of(name: str, shots: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return the name of a task without its shots, and the shots at which an evaluation runs it.

    Args:
        name: such as ``vqa`` or ``vqa@0,4``.
        shots: the evaluation's shots, for tasks without fixed ones.
    """
    base, _, own = parse_name(name)
    fixed = TASKS[base].shots if base in TASKS else None
    return base, next(numbers for numbers in (own, fixed, shots) if numbers is not None)


def planned_scores(tasks: str, shots: str, controls: bool, split: str) -> set[tuple[str, int, str]]:
    """List the scores of an evaluation: task, shots and control (none, or shuffled for an image-shuffled control).

    Each score is listed twice: by the name of the task, and by the name with its split (``vqav2:testdev``).

    Args:
        tasks: names of tasks, separated by spaces.
        shots: numbers of demonstrations, separated by spaces.
        controls: whether the evaluation includes controls.
        split: the evaluation's split, for tasks without official ones.
    """
    scores = set()
    for name in tasks.split():
        base, numbers = shots_of(name, parse_shots(shots))
        task = TASKS.get(base)
        named = parse_name(name).split or (task.splits[0] if task and task.splits else split)
        controlled = task.control_shots if task else None
        for label in (base, f"{base}:{named}"):
            scores |= {(label, number, "none") for number in numbers}
            if controls:
                scores |= {(label, number, "shuffled") for number in numbers if controlled is None or number in controlled}
    return scores


def metrics_of(name: str) -> list[str]:
    """List the metrics of a task; for a task of a benchmark folder, those of all file formats."""
    if name in TASKS:
        return list(TASKS[name].metric_names)
    return sorted({*vqa.metric_names, *captions.metric_names, *text.metric_names})


def _from_files(name: str, folder: BenchmarkFolder) -> Task:
    if name in folder.tasks:
        files = folder.of_split(name)
        for suffix, base in (("_questions.json", vqa), (".json", captions), (".jsonl", text)):
            if files.has(name + suffix):
                return replace(base, name=name, summary=f"{name}, evaluated like {base.name}", control_shots=None)
    known = sorted({*TASKS, *folder.tasks})
    raise ConfigurationError(
        f"task {name!r}: neither a known task nor files {name}_questions.json and {name}_annotations.json (questions), "
        f"{name}.json (COCO captions) or {name}.jsonl (text) in {folder.folder}; {suggest(name, known)}"
    )
