"""Tasks by name: those of this package, those of a Python file, and any file of a benchmark folder in this project's layout."""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.evals.benchmark_folder import BenchmarkFolder, has_captions
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.captions import captions
from mm1.evals.tasks.groups import GROUPS, MEAN, expand
from mm1.evals.tasks.names import parse_name, parse_shots
from mm1.evals.tasks.questions import vqa
from mm1.evals.tasks.text import text

MODULES = (
    "captions",
    "questions",
    "image_sets",
    "text",
    "instruct",
    "reading",
    "grounding",
    "coco",
    "nocaps",
    "textcaps",
    "vqav2",
    "textvqa",
    "vizwiz",
    "okvqa",
    "gqa",
    "arc",
    "piqa",
    "lambada",
    "winogrande",
    "hellaswag",
    "sciq",
    "triviaqa",
    "webqs",
    "ai2d",
    "chartqa",
    "documents",
    "llava_w",
    "mathvista",
    "mmbench",
    "mme",
    "mmmu",
    "mmvet",
    "muirbench",
    "nlvr2",
    "pope",
    "refcoco",
    "scienceqa",
    "seed",
)
"""Modules of this package; each `Task` in them is a task, in this order."""


def collect(modules: Iterable[ModuleType]) -> dict[str, Task]:
    """Return the tasks in modules by name.

    Raises:
        ConfigurationError: two tasks have one name.
    """
    tasks: dict[str, Task] = {}
    for module in modules:
        for task in (value for value in vars(module).values() if isinstance(value, Task)):
            if tasks.setdefault(task.name, task) is not task:
                raise ConfigurationError(f"{module.__name__}: another task has the name {task.name!r}, too")
    return tasks


TASKS: dict[str, Task] = collect(importlib.import_module(f"mm1.evals.tasks.{name}") for name in MODULES)


@cache
def tasks_of_file(path: Path) -> dict[str, Task]:
    """Return the tasks of a Python file by name.

    Raises:
        ConfigurationError: there is no such file, it cannot be executed, or it defines no task.
    """
    if not path.is_file():
        raise ConfigurationError(f"task {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise ConfigurationError(f"task {path}, line {line}: {type(error).__name__}: {error}") from error
    own = {name: task for name, task in collect([module]).items() if TASKS.get(name) is not task}
    if not own:
        raise ConfigurationError(f"task {path}: it defines no task (mm1.evals.tasks.base.Task)")
    return own


def find_task(name: str, folder: BenchmarkFolder) -> Task:
    """Find a task by name, with the shots in the name if there are any (``novel@4,8``).

    A file in this project's layout counts before the official files of a benchmark of that name if these have no folder.

    Raises:
        ConfigurationError: the task is unknown and the folder has no files of that name, or the shots are not numbers.
    """
    base, split, shots = parse_name(name)
    task = TASKS.get(base)
    if base.endswith(".py"):
        task = _from_program(base)
    elif task is None or (task.splits and split is None and base in _local(folder) and not folder.has(task.name, task.folder)):
        task = _from_files(base, folder)
    return task if shots is None else replace(task, shots=shots)


def _local(folder: BenchmarkFolder) -> tuple[str, ...]:
    return folder.tasks if folder.has_split else ()


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
    for name in expand(tasks.split()):
        base, numbers = shots_of(name, parse_shots(shots))
        task = TASKS.get(base)
        named = parse_name(name).split or (task.splits[0] if task and task.splits else split)
        controlled = task.control_shots if task else None
        for label in (base, f"{base}:{named}"):
            scores |= {(label, number, "none") for number in numbers}
            if controls:
                scores |= {(label, number, "shuffled") for number in numbers if controlled is None or number in controlled}
    for group, members in GROUPS.items():
        of_members = [
            {shots for label, shots, control in scores if label == member and control == "none"} for member in members
        ]
        scores |= {(group, number, "none") for number in set.intersection(*of_members)}
    return scores


def metrics_of(name: str) -> list[str]:
    """List the metrics of a task or group; for a task of a benchmark folder, those of all file formats."""
    if name in GROUPS:
        return [MEAN]
    if name in TASKS:
        return list(TASKS[name].metric_names)
    return sorted({*vqa.metric_names, *captions.metric_names, *text.metric_names})


def _from_program(path: str) -> Task:
    tasks = tasks_of_file(Path(path).absolute())
    if len(tasks) > 1:
        raise ConfigurationError(f"task {path}: it defines several tasks: {', '.join(tasks)}; keep one per file")
    return next(iter(tasks.values()))


def _from_files(name: str, folder: BenchmarkFolder) -> Task:
    local = _local(folder)
    if name in local:
        files = folder.of_split(name)
        lines = captions if files.has(f"{name}.jsonl") and has_captions(files.folder / f"{name}.jsonl") else text
        for suffix, base in (("_questions.json", vqa), (".json", captions), (".jsonl", lines)):
            if files.has(name + suffix):
                return replace(base, name=name, summary=f"{name}, evaluated like {base.name}", control_shots=None)
    known = sorted({*TASKS, *GROUPS, *local})
    raise ConfigurationError(
        f"task {name!r}: neither a known task nor files {name}_questions.json and {name}_annotations.json (questions), "
        f"{name}.json (captions) or {name}.jsonl (text, captions) in {folder.root / folder.split}; {suggest(name, known)}"
    )
