"""Commands that start work: run, submit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.tree.options import (
    COMMANDS,
    Cluster,
    FileArg,
    FolderArg,
    LogsArg,
    ParameterArg,
    ProfileArg,
    StoreArg,
    WatchArg,
    complete_workflow,
)


@command(name="run", help="Run a workflow on this machine, with live progress.", invoke=f"{COMMANDS}.run.run")
@dataclass
class Run:
    """``mm1 run``."""

    file: FileArg
    parameters: ParameterArg = field(default_factory=list)
    run: Annotated[str, Arg(long="--run", value_name="NAME", help="Name of the run; the same name continues it.")] = ""
    store: StoreArg = "runs/store"
    folder: FolderArg = Path("runs")
    profile: ProfileArg = "default"
    cores: Annotated[int, Arg(long=True, value_name="N", help="Cores that tasks may share [default: all].")] = 0
    list: Annotated[bool, Arg(long="--list", help="Print the workflow's steps and parameters, and run nothing.")] = False
    no_cache: Annotated[bool, Arg(long=True, help="Do the work of every step even if its outcome is known.")] = False


@command(name="submit", help="Send a workflow to a cluster.", invoke=f"{COMMANDS}.submit.submit")
@dataclass
class Submit(Cluster):
    """``mm1 submit`` and ``hera submit``."""

    file: Annotated[
        str,
        Arg(
            value_name="file",
            help="A workflow: file.py, file.py:object, a YAML file, mm1:NAME, or template/NAME of the cluster.",
            completion=complete_workflow,
        ),
    ]
    parameters: ParameterArg = field(default_factory=list)
    profile: ProfileArg = "default"
    dry_run: Annotated[
        str, Arg(long=True, value_name="client|server", help="client: print the object; server: let the cluster check it.")
    ] = ""
    watch: WatchArg = False
    logs: LogsArg = False
    idempotency_key: Annotated[
        str,
        Arg(long=True, value_name="TEXT", help="The same key makes one workflow, however often it is sent."),
    ] = ""
