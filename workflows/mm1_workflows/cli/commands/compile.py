"""``mm1 compile``: workflow files to YAML for each engine, or a check that nothing drifted."""

from __future__ import annotations

from mm1.errors import Outcome
from mm1_workflows.authoring.load import Loaded
from mm1_workflows.cli.commands.output import console, say
from mm1_workflows.cli.tree.building import Compile
from mm1_workflows.engines import yaml as compiler
from mm1_workflows.engines.kubeflow import losses


def compile_all(command: Compile) -> int:
    """Write the YAML of workflow files; with --check only compare."""
    shown = console()
    targets = command.files or compiler.workflow_files()
    engines = _engines(command)
    files, loaded = compiler.compile_all(targets, engines, command.profile, command.to)
    strays = [] if command.files else compiler.strays(files)
    if not (command.files or command.engine or command.to):
        files += compiler.stub_files()
    if command.check:
        differing = compiler.drift(files)
        for path, diff in differing.items():
            say(shown, diff)
            say(shown, f"{path} is not up to date: run `make compile`")
        for path in strays:
            say(shown, f"{path} was made from a workflow file that no longer exists: run `make compile`")
        return int(Outcome.CONFIGURATION) if differing or strays else 0
    changed = compiler.write(files)
    for path in strays:
        path.unlink()
        say(shown, f"removed {path}: its workflow file no longer exists")
    folders = ", ".join(sorted({str(file.path.parent) for file in files}))
    say(shown, f"{len(targets)} workflows for {', '.join(engines)}: {len(changed)} of {len(files)} files changed in {folders}")
    if "kubeflow" in engines:
        for line in lost(loaded):
            say(shown, line)
    return 0


def lost(loaded: list[Loaded]) -> list[str]:
    """What Kubeflow cannot say of these workflows, each kind once."""
    found = sorted({loss for one in loaded for loss in losses.found(one.document)})
    return ["Kubeflow cannot say (docs/how-to/kubeflow.md):", *(f"  {loss}" for loss in found)] if found else []


def _engines(command: Compile) -> tuple[compiler.Engine, ...]:
    if command.engine:
        return (command.engine,)
    return ("argo",) if command.to else compiler.ENGINES
