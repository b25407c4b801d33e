"""Small workflows of toy steps for tests of graph, policy and local runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hera.workflows import DAG, Parameter, RetryStrategy, Task, Workflow
from hera.workflows.models import Backoff

from mm1_workflows import steps
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.retries import RETRY_EXPRESSION
from tests.support.toy_steps import STEP

QUICK_RETRY = RetryStrategy(limit=2, expression=RETRY_EXPRESSION, backoff=Backoff(duration="50ms", factor=2))


def toy(name: str, **inputs: Any) -> Task:
    """A toy task in the current DAG, whose retries do not wait."""
    task = steps.task(STEP, name=name, **inputs)
    return task


def build(
    body: Callable[[Workflow], None],
    *,
    exit_task: bool = False,
    name: str = "toy",
    fail_fast: bool | None = None,
    **parameters: str | None,
) -> Document:
    """A workflow of toy tasks as plain data.

    Args:
        body: makes the tasks.
        exit_task: whether a task runs at the end, which says the status.
        name: of the workflow.
        fail_fast: of its DAG.
        parameters: defaults of the workflow's parameters; None = required.
    """
    arguments = [
        Parameter(name=key, value=value) if value is not None else Parameter(name=key) for key, value in parameters.items()
    ]
    on_exit = "at-exit" if exit_task else None
    with Workflow(generate_name=f"{name}-", entrypoint="main", on_exit=on_exit, arguments=arguments) as w:
        with DAG(name="main", fail_fast=fail_fast):
            body(w)
        if exit_task:
            with DAG(name="at-exit"):
                folder = w.get_parameter("folder") if "folder" in parameters else ""
                toy("finish", say="{{workflow.status}}", folder=folder)
    for template in w.templates:
        if not isinstance(template, DAG):
            template.retry_strategy = QUICK_RETRY
    document: Document = w.to_dict()
    return document


def events(folder: Path) -> list[tuple[str, str, float]]:
    """(start or end, task, time) in the order in which they happened."""
    file = folder / "events.txt"
    lines = [line.split() for line in file.read_text().splitlines()] if file.is_file() else []
    return [(kind, task, float(when)) for kind, task, when, *_ in lines]
