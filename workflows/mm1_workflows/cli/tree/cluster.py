"""Commands about runs on a cluster: watch, logs, stop, retry, open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.tree.options import COMMANDS, Cluster, LogsArg, RunArg, WatchArg


@command(name="watch", help="Follow a run on a cluster to its end; Ctrl-C leaves it running.", invoke=f"{COMMANDS}.watch.watch")
@dataclass
class Watch(Cluster):
    """``mm1 watch``."""

    name: RunArg
    logs: Annotated[bool, Arg(long=True, help="Also show its logs.")] = False


@command(name="logs", help="The logs of a run on a cluster, each line with its step.", invoke=f"{COMMANDS}.logs.logs")
@dataclass
class Logs(Cluster):
    """``mm1 logs``."""

    name: RunArg
    task: Annotated[str, Arg(long=True, value_name="NAME", help="Only this task; a loop's name means all its items.")] = ""
    no_follow: Annotated[bool, Arg(long=True, help="Show what there is, and do not wait for more.")] = False


@command(name="stop", help="End a run on a cluster; its pods and JobSets are removed.", invoke=f"{COMMANDS}.stop.stop")
@dataclass
class Stop(Cluster):
    """``mm1 stop``."""

    name: RunArg
    now: Annotated[bool, Arg(long=True, help="Without its exit task (the report).")] = False
    timeout: Annotated[int, Arg(long=True, value_name="SECONDS", help="How long its pods may take to end.")] = 300


@command(
    name="retry",
    help="Run a failed run again as a new one; the cache makes its finished steps free.",
    invoke=f"{COMMANDS}.retry.retry",
)
@dataclass
class Retry(Cluster):
    """``mm1 retry``."""

    name: RunArg
    watch: WatchArg = False
    logs: LogsArg = False


@command(name="open", help="The address of a run in Argo's user interface.", invoke=f"{COMMANDS}.open.show")
@dataclass
class Open(Cluster):
    """``mm1 open``."""

    name: RunArg
    browser: Annotated[bool, Arg(long=True, help="Also open it in the browser.")] = False
