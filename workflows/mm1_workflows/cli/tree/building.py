"""Commands about workflow files: compile, lint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cappa import Arg, command

from mm1_workflows.cli.tree.options import COMMANDS, FilesArg, ProfileArg


@command(
    name="compile",
    help="Write the YAML of workflow files for Argo, Kubeflow and the chart.",
    invoke=f"{COMMANDS}.compile.compile_all",
)
@dataclass
class Compile:
    """``mm1 compile``."""

    files: FilesArg = field(default_factory=list)
    engine: Annotated[
        Literal["argo", "kubeflow", "template"] | None,
        Arg(long=True, help="One engine only: argo, kubeflow (pipeline), template (WorkflowTemplate of the chart)."),
    ] = None
    to: Annotated[
        Path | None, Arg(long="--to", value_name="FOLDER", help="Another folder, for one engine [default engine: argo].")
    ] = None
    profile: ProfileArg = "default"
    check: Annotated[bool, Arg(long=True, help="Write nothing; fail when a file differs.")] = False


@command(name="lint", help="Check workflows against the rules.", invoke=f"{COMMANDS}.lint.lint")
@dataclass
class Lint:
    """``mm1 lint``."""

    files: FilesArg = field(default_factory=list)
    profile: ProfileArg = "default"
    values: Annotated[
        Path | None,
        Arg(long=True, value_name="FILE", help="Check the schedules of a values file of the chart, instead of workflows."),
    ] = None
    explain: Annotated[str, Arg(long=True, value_name="RULE", help="Explain a rule (for example P007), or `all`.")] = ""
