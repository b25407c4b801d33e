"""What the evaluation of a cell has to answer: the tasks of its settings, and those that its studies' scores name.

Studies that share a cell share its evaluation: tasks and shots are joined if everything else is equal. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping

from mm1.evals.tasks.names import parse_name, parse_shots
from mm1.studies.config import TERM, Study

Tasks = dict[str, frozenset[int]]
"""Task, with its split if it names one -> shots."""
SELECTION = ("tasks", "shots")
"""Inputs of the evaluation that studies join."""


def needed(study: Study, inputs: Mapping[str, str], default_shots: str) -> Tasks:
    """Return the tasks and shots that a study needs of a cell.

    Args:
        study: the study, with its scores.
        inputs: settings of the stage `evaluate`; without `tasks`, only the scores count.
        default_shots: default of its input `shots`.

    Raises:
        ConfigurationError: the name of a task or a number of shots cannot be parsed.
    """
    given = parse_shots(inputs.get("shots", default_shots))
    tasks: Tasks = {}
    for name in inputs.get("tasks", "").split():
        parsed = parse_name(name)
        label = str(parsed._replace(shots=None))
        tasks = joined(tasks, {label: frozenset(given if parsed.shots is None else parsed.shots)})
    for score in study.scores.values():
        for match in filter(None, map(TERM.match, (*score.mean, *score.minus))):
            if match["task"]:
                tasks = joined(tasks, {match["task"]: frozenset((int(match["shots"]),))})
    return tasks


def joined(first: Tasks, second: Tasks) -> Tasks:
    """Return the tasks of both, each with the shots of both."""
    return {name: first.get(name, frozenset()) | second.get(name, frozenset()) for name in dict.fromkeys([*first, *second])}


def selection(tasks: Tasks) -> dict[str, str]:
    """Return the inputs `tasks` and `shots` of the step evaluate."""
    names = [f"{name}@{','.join(map(str, sorted(shots)))}" for name, shots in tasks.items()]
    return {"tasks": " ".join(names), "shots": "0"}
