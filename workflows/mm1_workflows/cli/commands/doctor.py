"""``mm1 doctor``: check the installation and suggest fixes."""

from __future__ import annotations

from dataclasses import dataclass

from cappa import command

from mm1.errors import Outcome
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg
from mm1_workflows.cli.output import console, say
from mm1_workflows.cli.setup_checks import all_checks


@command(name="doctor", help="Check the installation and suggest fixes.")
@dataclass
class Command:
    """``mm1 doctor``."""

    store: StoreArg = DEFAULT_STORE

    def __call__(self) -> int:
        """Print the results of all checks; the exit code is 80 if there is an error."""
        output = console()
        checks = all_checks(self.store)
        for check in checks:
            mark = "[green]ok  [/green]" if check.fine else "[red]fix [/red]" if check.needed else "[yellow]note[/yellow]"
            output.print(f"{mark}  {check.name:<9}  ", end="")
            say(output, check.state)
            if not check.fine and check.remedy:
                say(output, f"                 {check.remedy}")
        return int(Outcome.CONFIGURATION) if any(check.needed and not check.fine for check in checks) else 0
