"""``mm1 verify CARD``: run the training of a verification card again, and compare."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1.lineage.card import Card, read_card
from mm1.lineage.card_check import Finding, check_proof, compare_cards
from mm1.lineage.text import count
from mm1.store.open import open_store
from mm1_workflows.cli.card_runs import CardRuns
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option
from mm1_workflows.cli.output import console, plain, say, table

DIFFERENT = 1
"""Exit code if the run is not that of the card, as in ``diff``."""


@command(name="verify", help="Run the training of a card.yaml again, undisturbed and with a stop in between, and compare.")
@dataclass
class Command:
    """``mm1 verify``."""

    card: Annotated[Path, Arg(value_name="card", help="The card.yaml of a training step.")]
    store: StoreArg = DEFAULT_STORE
    make: Annotated[bool, Arg(long=True, help="First run the steps that make the data, if the store lacks it.")] = False
    stop_after: Annotated[
        int, count_option("Step after which to stop the run that is resumed [default: a third].", least=0)
    ] = 0
    no_resume: Annotated[bool, Arg(long=True, help="Do not prove that a stopped run resumes exactly.")] = False
    tolerance: Annotated[
        float | None,
        Arg(long=True, value_name="X", help="Relative difference of a loss on other hardware [default: the card's]."),
    ] = None
    write: Annotated[bool, Arg(long=True, help="Write the resume proof into the card.")] = False

    def __call__(self) -> int:
        """Print each field of the card, its value now and the verdict; the exit code is 1 if one is wrong.

        Raises:
            ConfigurationError: invalid card, or its data is not in the store.
        """
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ConfigurationError(f"--tolerance: expected a number of at least 0, got {self.tolerance:g}")
        card = read_card(self.card)
        stop_after = self.stop_after or max(1, card.results.steps // 3)
        if not self.no_resume and not stop_after < card.results.steps:
            raise ConfigurationError(f"--stop-after: expected fewer than the {card.results.steps} steps, got {stop_after}")
        output = console()
        with tempfile.TemporaryDirectory(prefix="mm1-verify-") as folder:
            runs = CardRuns(card, open_store(self.store), Path(folder))
            self._prepare(runs)
            say(output, f"training {card.recipe} for {card.results.steps:,} steps")
            now = runs.undisturbed()
            findings = compare_cards(card, now, card.tolerance if self.tolerance is None else self.tolerance)
            if not self.no_resume:
                say(output, f"training again, with a stop after step {stop_after}")
                proof = runs.stopped(stop_after, now)
                same = all(finding.fine for finding in findings)  # otherwise it is not the card's run that was resumed
                findings.append(check_proof(card, proof))
                card = card.with_proof(proof) if same else card
                if self.write and same:
                    card.write(self.card)
        return self._show(card, findings)

    def _prepare(self, runs: CardRuns) -> None:
        """Make what the training needs, or say how."""
        missing = runs.missing()
        if missing and not self.make:
            commands = "\n".join(f"  {call.command(runs.store.uri)}" for call in missing)
            raise ConfigurationError(f"store {runs.store.uri} lacks what the training reads; add --make, or run:\n{commands}")
        for call in missing:
            say(console(), f"making {call.task} with {call.step}")
            runs.make(call)

    def _show(self, card: Card, findings: list[Finding]) -> int:
        output = console()
        listing = table("field", "card", "now", "verdict")
        for finding in findings:
            listing.add_row(*map(plain, finding[:4]), style="" if finding.fine else "bold red")
        output.print(listing)
        wrong = [finding.field for finding in findings if not finding.fine]
        verdict = f"{count(len(wrong), 'field')} wrong: {', '.join(wrong)}" if wrong else "verified"
        say(output, f"\n{self.card}: {verdict}")
        for reason in card.reasons:
            say(output, f"partial: {reason}")
        return DIFFERENT if wrong else 0
