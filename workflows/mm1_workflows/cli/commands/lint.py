"""``mm1 lint``: check workflows, or the schedules in a chart's values, against the rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cappa import Arg, command
from rich.console import Console

from mm1.errors import BY_OUTCOME, Mm1Error, Outcome
from mm1.lineage.text import count
from mm1_workflows.authoring.load import load
from mm1_workflows.cli.options import FilesArg, ProfileArg
from mm1_workflows.cli.output import console, plain, say
from mm1_workflows.engines.yaml import workflow_files
from mm1_workflows.rules import policy
from mm1_workflows.rules.finding import Finding


@command(name="lint", help="Check workflows against the rules.")
@dataclass
class Command:
    """``mm1 lint``."""

    files: FilesArg = field(default_factory=list)
    profile: ProfileArg = "default"
    values: Annotated[
        Path | None,
        Arg(long=True, value_name="FILE", help="Check the schedules in a values file of the chart instead of workflows."),
    ] = None
    explain: Annotated[str, Arg(long=True, value_name="RULE", help="Explain a rule (for example P007), or `all`.")] = ""

    def __call__(self) -> int:
        """Print findings; the exit code is 80 if there is an error.

        Raises:
            Mm1Error: some files cannot be checked; the message has all of them, the class is that of the highest exit code.
        """
        output = console()
        broken: list[Mm1Error] = []
        if self.explain:
            return _explain(output, self.explain)
        if self.values:
            from mm1_workflows.rules.schedules import check_values_file

            subject = "1 values file"
            findings = [(str(self.values), finding) for finding in check_values_file(self.values, self.profile)]
        else:
            targets = self.files or workflow_files()
            subject = count(len(targets), "workflow")
            findings = []
            for target in targets:
                try:
                    findings += [(target, finding) for finding in _findings(target, self.profile)]
                except Mm1Error as error:
                    broken.append(error)
        for target, finding in findings:
            colour = "red" if finding.severity == "error" else "yellow"
            text = f"{plain(target)}: [{colour}]{finding.severity}[/{colour}] {plain(finding)}"
            output.print(text, soft_wrap=True)
        num_errors = sum(finding.severity == "error" for _, finding in findings)
        num_warnings = len(findings) - num_errors
        if findings or not broken:
            say(output, f"{subject}: {count(num_errors + len(broken), 'error')}, {count(num_warnings, 'warning')}")
        if broken:
            worst = max(int(error.outcome) for error in broken)
            raise BY_OUTCOME[Outcome(worst)]("\n".join(map(str, broken)))
        return int(Outcome.CONFIGURATION) if num_errors else 0


def _findings(target: str, profile: str) -> Iterable[Finding]:
    loaded = load(target, profile)
    return policy.check(loaded.document, loaded.profile)


def _explain(output: Console, rule_id: str) -> int:
    for rule in policy.RULES if rule_id == "all" else [policy.rule(rule_id)]:
        output.print(f"[bold]{rule.id}[/bold]  {plain(rule.title)}", soft_wrap=True)
        say(output, f"  why     {rule.why}\n  remedy  {rule.remedy}")
    return 0
