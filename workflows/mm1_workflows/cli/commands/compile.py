"""``mm1 compile``: compile workflow files to YAML for each engine, or check that the files are up to date."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cappa import Arg, command

from mm1.errors import Outcome
from mm1.lineage.text import count
from mm1_workflows.authoring.load import Loaded
from mm1_workflows.cli.options import FilesArg, ProfileArg
from mm1_workflows.cli.output import console, say
from mm1_workflows.cli.pages import KUBEFLOW, page
from mm1_workflows.engines import yaml as compiler
from mm1_workflows.engines.kubeflow import losses


@command(name="compile", help="Compile workflow files to YAML for Argo, Kubeflow and the chart.")
@dataclass
class Command:
    """``mm1 compile``."""

    files: FilesArg = field(default_factory=list)
    engine: Annotated[
        Literal["argo", "kubeflow", "template"] | None,
        Arg(long=True, help="Only one engine: argo, kubeflow (pipeline), template (WorkflowTemplate of the chart)."),
    ] = None
    to: Annotated[
        Path | None,
        Arg(long="--to", value_name="FOLDER", help="Folder for the files of a single engine [default engine: argo]."),
    ] = None
    profile: ProfileArg = "default"
    check: Annotated[bool, Arg(long=True, help="Write nothing; fail if a file is out of date.")] = False

    def __call__(self) -> int:
        """Compile workflow files; with --check, only compare."""
        output = console()
        targets = self.files or compiler.workflow_files()
        engines = _engines(self)
        files, loaded = compiler.compile_all(targets, engines, self.profile, self.to)
        is_everything = not (self.files or self.engine or self.to)
        if is_everything and self.profile == compiler.DEFAULT:
            files += compiler.compile_all(targets, ("template",), compiler.TRIAL)[0]
        strays = [] if self.files else compiler.strays(files)
        if is_everything:
            files += compiler.stub_files()
        if self.check:
            differing = compiler.drift(files)
            for path, diff in differing.items():
                say(output, diff)
                say(output, f"{path} is out of date: run `make compile`")
            for path in strays:
                say(output, f"{path} was compiled from a workflow file that no longer exists: run `make compile`")
            return int(Outcome.CONFIGURATION) if differing or strays else 0
        changed = compiler.write(files)
        for path in strays:
            path.unlink()
            say(output, f"removed {path}: its workflow file no longer exists")
        folders = ", ".join(sorted({str(file.path.parent) for file in files}))
        changes = count(len(changed), "file", of=len(files))
        say(output, f"{count(len(targets), 'workflow')} for {', '.join(engines)}: {changes} changed in {folders}")
        if "kubeflow" in engines:
            for line in lost(loaded):
                say(output, line)
        return 0


def lost(loaded: list[Loaded]) -> list[str]:
    """Describe what Kubeflow cannot express of these workflows, each kind once."""
    kinds = sorted({loss for workflow in loaded for loss in losses.losses_of(workflow.document)})
    return [f"Kubeflow cannot express ({page(KUBEFLOW)}):", *(f"  {kind}" for kind in kinds)] if kinds else []


def _engines(command: Command) -> tuple[compiler.Engine, ...]:
    if command.engine:
        return (command.engine,)
    return ("argo",) if command.to else compiler.ENGINES
