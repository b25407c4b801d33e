"""``mm1 eval tasks``: list the tasks with their files and splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.output import console, plain, say, table


@command(name="tasks", help="List the tasks: what they ask, the files they read, their splits.")
@dataclass
class EvalTasks:
    """``mm1 eval tasks``."""

    names: Annotated[list[str], Arg(value_name="task", help="Tasks to list [default: all].")] = field(default_factory=list)

    def __call__(self) -> int:
        """Print the tasks."""
        from mm1.evals.tasks.base import Task
        from mm1.evals.tasks.groups import GROUPS
        from mm1.evals.tasks.registry import TASKS, known_task

        tasks: list[Task] = [known_task(name) for name in self.names] or list(TASKS.values())
        listing = table("task", "what it asks", "metrics", "files", "splits", less_important=("splits", "metrics"))
        for task in tasks:
            folder = task.folder or task.name
            files = ", ".join(f"{folder}/{file}" for file in task.files) if task.files else _own_files(task)
            splits = ", ".join(task.splits) or "subfolder (--split)"
            listing.add_row(*map(plain, (task.name, task.summary, ", ".join(task.metric_names), files, splits)))
        output = console()
        output.print(listing)
        for group, members in GROUPS.items():
            say(output, f"{group}: the mean of {', '.join(members)}")
        say(output, "\nFiles are below the folder of --benchmarks; the first split is the default. Any other pair of")
        say(
            output,
            "<split>/<name>_questions.json and <name>_annotations.json, <name>.json of captions or <name>.jsonl is a task.",
        )
        return 0


def _own_files(task: object) -> str:
    name, form = str(getattr(task, "name", "")), str(getattr(task, "form", ""))
    ending = {"question": "_questions.json, _annotations.json", "caption": ".json", "text": ".jsonl"}.get(form, "")
    return f"<split>/{name}{ending}"
