"""``mm1 lint``: workflows against the rules."""

from __future__ import annotations

from rich.console import Console

from mm1.errors import Outcome
from mm1_workflows import policy
from mm1_workflows.commands.tree import Lint
from mm1_workflows.compile import workflow_files
from mm1_workflows.load import load


def lint(command: Lint) -> int:
    """Print findings; the exit code is 80 when one is an error."""
    console = Console(soft_wrap=True, highlight=False)
    if command.explain:
        rules = policy.RULES if command.explain == "all" else [policy.rule(command.explain)]
        for rule in rules:
            console.print(f"[bold]{rule.id}[/bold]  {rule.title}\n  why     {rule.why}\n  remedy  {rule.remedy}")
        return 0
    targets = command.files or workflow_files()
    num_errors = num_warnings = 0
    for target in targets:
        loaded = load(target, command.profile)
        for finding in policy.check(loaded.document, loaded.profile):
            num_errors += finding.severity == "error"
            num_warnings += finding.severity == "warning"
            colour = "red" if finding.severity == "error" else "yellow"
            console.print(f"{target}: ", end="", markup=False)
            console.print(f"[{colour}]{finding.severity}[/{colour}] ", end="")
            console.print(str(finding), markup=False)
    console.print(f"{len(targets)} workflows: {num_errors} errors, {num_warnings} warnings", markup=False)
    return int(Outcome.CONFIGURATION) if num_errors else 0
