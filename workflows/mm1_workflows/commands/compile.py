"""``mm1 compile``: workflow files to YAML, or a check that nothing drifted."""

from __future__ import annotations

from mm1.errors import Outcome
from mm1_workflows import compile as compiler
from mm1_workflows import graph
from mm1_workflows.commands.output import console, say
from mm1_workflows.load import load
from mm1_workflows.tree.building import Compile


def compile_all(command: Compile) -> int:
    """Write the YAML of workflow files; with --check only compare."""
    shown = console()
    targets = command.files or compiler.workflow_files()
    for target in targets:
        graph.read(load(target, command.profile).document)  # what no engine runs is not written
    if command.check:
        differing = compiler.drift(targets, command.to, command.profile)
        for path, diff in differing.items():
            say(shown, diff)
            say(shown, f"{path} is not what its workflow file says: run `make compile`")
        return int(Outcome.CONFIGURATION) if differing else 0
    changed = compiler.write(targets, command.to, command.profile)
    say(shown, f"{len(targets)} workflows, {len(changed)} files changed in {command.to}")
    return 0
