"""``mm1 logs``: print the logs of a run on a cluster, each line with its step (and node)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.argo.document import Document
from mm1_workflows.cli.options import ClusterOptions, RunArg
from mm1_workflows.cli.output import console
from mm1_workflows.cli.pipes import end_with_reader
from mm1_workflows.cluster.following.follow import check_task, follow
from mm1_workflows.cluster.following.nodes import attempts_of
from mm1_workflows.cluster.following.pending import Trainings, rank_pods
from mm1_workflows.cluster.following.streams import is_selected, read_pod
from mm1_workflows.cluster.transport.base import Transport
from mm1_workflows.cluster.transport.connect import connect
from mm1_workflows.display.screen import LogDisplay


@command(name="logs", help="Print the logs of a run on a cluster, each line with its step.")
@dataclass
class Command(ClusterOptions):
    """``mm1 logs``."""

    name: RunArg
    task: Annotated[
        str, Arg(long=True, value_name="NAME", help="Only this task; the name of a loop selects all its items.")
    ] = ""
    no_follow: Annotated[bool, Arg(long=True, help="Print the existing lines without waiting for more.")] = False

    def __call__(self) -> int:
        """Print or follow the logs; when following, the exit code is that of the run's outcome class. Exits with its reader."""
        end_with_reader()
        transport = connect(self)
        workflow = transport.get(self.name)
        check_task(workflow, self.task)
        if not self.no_follow:
            return follow(transport, self.name, console(), watch=False, logs=True, task=self.task)
        _print_so_far(transport, workflow, self.task)
        return 0


def _print_so_far(transport: Transport, workflow: Document, only: str) -> None:
    """Print the existing logs, one pod after the other, in the order of the tasks."""
    run = workflow["metadata"]["name"]
    display = LogDisplay(console())
    started = [(task.name, attempt.pod) for task, attempt in attempts_of(workflow) if attempt.phase != "Pending"]
    readable = [(name, name, pod) for name, pod in started]
    ranks = rank_pods(Trainings(transport, run).read())
    readable += [(rank.task, f"{rank.task}:{rank.node}", rank.pod) for rank in ranks if rank.started]
    for name, label, pod in readable:
        if is_selected(only, name):
            read_pod(transport, run, pod, partial(display.log, label))
