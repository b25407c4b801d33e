"""Commands that start work: run, submit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.tree.options import COMMANDS, FileArg, FolderArg, ParameterArg, ProfileArg, StoreArg


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
class Submit:
    """``mm1 submit`` and ``hera submit``."""

    file: FileArg
    parameters: ParameterArg = field(default_factory=list)
    profile: ProfileArg = "default"
    dry_run: Annotated[
        str, Arg(long=True, value_name="client|server", help="client: print the object; server: let the cluster check it.")
    ] = ""
    server: Annotated[
        str, Arg(long=True, value_name="URL", help="Argo Server; without it the Kubernetes API of the kubeconfig is used.")
    ] = ""
    token_file: Annotated[
        Path | None, Arg(long=True, value_name="FILE", help="File with the token for Argo Server [default: $ARGO_TOKEN].")
    ] = None
    context: Annotated[str, Arg(long=True, value_name="NAME", help="Context of the kubeconfig.")] = ""
    namespace: Annotated[str, Arg(short="-n", long=True, value_name="NAME", help="Namespace [default: the context's].")] = ""
    idempotency_key: Annotated[
        str,
        Arg(long=True, value_name="TEXT", help="The same key makes one workflow, however often it is sent."),
    ] = ""
