"""From a name to a task: the known ones, and any further file pair of a benchmark folder."""

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
    """The task of a name, with its own shots where the name carries some (``novel@4,8``).

    Raises:
        ConfigurationError: no such task is known and the folder has no files of that name, or the shots are no numbers.
    """
    base, shots = parse_name(name)
    task = TASKS.get(base) or _from_files(base, folder)
    return task if shots is None else replace(task, shots=shots)


def known_task(name: str) -> Task:
    """The task of a name among those that this package knows.

    Raises:
        ConfigurationError: it is none of them, or the shots are no numbers.
    """
    base, _ = parse_name(name)
    if base not in TASKS:
        raise ConfigurationError(f"task {base!r} is not known; {suggest(base, list(TASKS))}")
    return TASKS[base]


def parse_name(name: str) -> tuple[str, tuple[int, ...] | None]:
    """``novel@4,8`` as name and shots; None without shots.

    Raises:
        ConfigurationError: the shots are no numbers.
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
    """Numbers of demonstrations, separated by spaces.

    Raises:
        ConfigurationError: something else.
    """
    try:
        return tuple(map(parse_integer, text.split()))
    except ValueError:
        raise ConfigurationError(
            f"shots: expected numbers separated by spaces, for example '0 4 8', got {quoted(text)}"
        ) from None


def shots_of(name: str, shots: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The name of a task without its shots, and the shots at which an evaluation asks it.

    Args:
        name: such as ``vqa`` or ``vqa@0,4``.
        shots: the evaluation's, for tasks that do not fix their own.
    """
    base, own = parse_name(name)
    fixed = TASKS[base].shots if base in TASKS else None
    return base, next(numbers for numbers in (own, fixed, shots) if numbers is not None)


def asked(tasks: str, shots: str, controls: bool) -> set[str]:
    """What an evaluation asks: ``task/shots``, and ``task/shots/shuffled`` for an image-shuffled control.

    Args:
        tasks: names of tasks, separated by spaces.
        shots: numbers of demonstrations, separated by spaces.
        controls: whether controls are asked too.
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
    """Metrics of a task; of one that a benchmark folder may have, those that files of any form give."""
    return [*TASKS[name].metrics] if name in TASKS else sorted({*vqa.metrics, *captions.metrics, *text.metrics})


def _from_files(name: str, folder: BenchmarkFolder) -> Task:
    if name in folder.tasks:
        for suffix, like in (("_questions.json", vqa), (".json", captions), (".jsonl", text)):
            if folder.has(name + suffix):
                return replace(like, name=name, summary=f"{name}, asked like {like.name}", control_shots=None)
    known = sorted({*TASKS, *folder.tasks})
    raise ConfigurationError(
        f"task {name!r}: neither a known task nor files {name}_questions.json and {name}_annotations.json in {folder.folder}; "
        f"{suggest(name, known)}"
    )
