"""From a name to a task: the known ones, and any further file pair of a benchmark folder."""

from __future__ import annotations

from dataclasses import replace

from mm1.config.resolve import suggest
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
    base, separator, shots = name.partition("@")
    task = TASKS.get(base) or _from_files(base, folder)
    if not separator:
        return task
    if not all(part.isdigit() for part in shots.split(",")):
        raise ConfigurationError(f"task {name!r}: after @ come numbers of demonstrations, for example {base}@0,4")
    return replace(task, shots=tuple(int(part) for part in shots.split(",")))


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
