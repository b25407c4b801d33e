"""``mm1 watch``: a run on a cluster, followed to its end."""

from __future__ import annotations

from mm1_workflows.cli.commands.output import console
from mm1_workflows.cli.tree.cluster import Watch
from mm1_workflows.cluster.following.follow import follow
from mm1_workflows.cluster.transport.connect import connect


def watch(command: Watch) -> int:
    """Follow a run; the exit code is its outcome class."""
    transport = connect(command)
    transport.get(command.name)
    return follow(transport, command.name, console(), watch=True, logs=command.logs)
