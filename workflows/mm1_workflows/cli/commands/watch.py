"""``mm1 watch``: follow a run on a cluster to completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.options import ClusterOptions, RunArg
from mm1_workflows.cli.output import console
from mm1_workflows.cluster.following.follow import follow
from mm1_workflows.cluster.transport.connect import connect


@command(name="watch", help="Follow a run on a cluster to completion; Ctrl-C leaves it running.")
@dataclass
class Command(ClusterOptions):
    """``mm1 watch``."""

    name: RunArg
    logs: Annotated[bool, Arg(long=True, help="Also show its logs.")] = False

    def __call__(self) -> int:
        """Follow a run; the exit code is that of its outcome class."""
        transport = connect(self)
        transport.get(self.name)
        return follow(transport, self.name, console(), watch=True, logs=self.logs)
