"""``mm1 lint``: workflows against the rules."""

from __future__ import annotations

from mm1.errors import Outcome
from mm1_workflows.authoring.load import load
from mm1_workflows.cli.commands.output import console, plain, say
from mm1_workflows.cli.tree.building import Lint
from mm1_workflows.engines.yaml import workflow_files
from mm1_workflows.rules import policy


def lint(command: Lint) -> int:
    """Print findings; the exit code is 80 when one is an error."""
    shown = console()
    if command.explain:
        rules = policy.RULES if command.explain == "all" else [policy.rule(command.explain)]
        for rule in rules:
            shown.print(f"[bold]{rule.id}[/bold]  {plain(rule.title)}", soft_wrap=True)
            say(shown, f"  why     {rule.why}\n  remedy  {rule.remedy}")
        return 0
    targets = command.files or workflow_files()
    num_errors = num_warnings = 0
    for target in targets:
        loaded = load(target, command.profile)
        for finding in policy.check(loaded.document, loaded.profile):
            num_errors += finding.severity == "error"
            num_warnings += finding.severity == "warning"
            colour = "red" if finding.severity == "error" else "yellow"
            words = f"{plain(target)}: [{colour}]{finding.severity}[/{colour}] {plain(finding)}"
            shown.print(words, soft_wrap=True)
    say(shown, f"{len(targets)} workflows: {num_errors} errors, {num_warnings} warnings")
    return int(Outcome.CONFIGURATION) if num_errors else 0
