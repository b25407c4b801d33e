"""``mm1 logs``: what the steps of a run on a cluster wrote, each line with its step (and node)."""

from __future__ import annotations

from functools import partial

from mm1_workflows.argo.document import Document
from mm1_workflows.cli.commands.output import console
from mm1_workflows.cli.pipes import end_with_reader
from mm1_workflows.cli.tree.cluster import Logs
from mm1_workflows.cluster.following.follow import check_task, follow
from mm1_workflows.cluster.following.nodes import attempts_of
from mm1_workflows.cluster.following.pending import Trainings, rank_pods
from mm1_workflows.cluster.following.streams import read_pod, wanted
from mm1_workflows.cluster.transport.base import Transport
from mm1_workflows.cluster.transport.connect import connect
from mm1_workflows.display.screen import LogDisplay


def logs(command: Logs) -> int:
    """Show logs, following unless told otherwise; then the exit code is the run's outcome class. Ends with its reader."""
    end_with_reader()
    transport = connect(command)
    workflow = transport.get(command.name)
    check_task(workflow, command.task)
    if not command.no_follow:
        return follow(transport, command.name, console(), watch=False, logs=True, task=command.task)
    _print_so_far(transport, workflow, command.task)
    return 0


def _print_so_far(transport: Transport, workflow: Document, only: str) -> None:
    """The logs so far, one pod after the other, in the order of the tasks."""
    run = workflow["metadata"]["name"]
    display = LogDisplay(console())
    started = [(task.name, attempt.pod) for task, attempt in attempts_of(workflow) if attempt.phase != "Pending"]
    readable = [(name, name, pod) for name, pod in started]
    ranks = rank_pods(Trainings(transport, run).read())
    readable += [(rank.task, f"{rank.task}:{rank.node}", rank.pod) for rank in ranks if rank.started]
    for name, label, pod in readable:
        if wanted(only, name):
            read_pod(transport, run, pod, partial(display.log, label))
