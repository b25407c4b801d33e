"""``mm1 compare A B ...``: compare runs side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

from cappa import Arg, command
from rich.console import Console
from rich.table import Table

from mm1.errors import ConfigurationError
from mm1.lineage.compare import Facts, compare_losses, compare_runs
from mm1.lineage.records import RunRecords, read_run
from mm1.store.base import Store
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store
from mm1_workflows.cli.output import console, count, plain, say, table

DIFFERENT = 1
"""Exit code of ``--assert-equal`` if the losses differ, as in ``diff``."""


@command(name="compare", help="Compare two or more runs side by side: parameters, losses, scores.")
@dataclass
class Command:
    """``mm1 compare``."""

    runs: Annotated[list[str], Arg(value_name="run", help="Two or more runs; the others are compared with the first.")]
    store: StoreArg = DEFAULT_STORE
    all: Annotated[bool, Arg(long=True, help="Also print equal values.")] = False
    losses: Annotated[bool, Arg(long=True, help="Only compare the losses, step by step.")] = False
    assert_equal: Annotated[bool, Arg(long=True, help="With --losses: exit with code 1 unless they are equal.")] = False
    tolerance: Annotated[float, Arg(long=True, value_name="X", help="Relative difference up to which losses are equal.")] = 0.0

    def __call__(self) -> int:
        """Print inputs, facts, losses and scores of the runs.

        Raises:
            ConfigurationError: fewer than two runs, or ``--assert-equal`` without ``--losses``.
        """
        if len(self.runs) < 2:
            raise ConfigurationError("expected at least two runs: mm1 compare RUN RUN ... (mm1 runs lists them)")
        if self.assert_equal and not self.losses:
            raise ConfigurationError("--assert-equal requires --losses")
        if not 0 <= self.tolerance < math.inf:
            raise ConfigurationError(f"--tolerance: expected a number of at least 0, got {self.tolerance:g}")
        store = existing_store(self.store)
        runs = [read_run(store, name) for name in self.runs]
        for run in runs:
            if run.state != "done":
                say(console(), f"{run.name} ({run.state}): some of its values are missing, see mm1 runs {run.name}")
        return self._compare_losses(store, runs) if self.losses else self._compare(store, runs)

    def _compare(self, store: Store, runs: list[RunRecords]) -> int:
        output = console()
        differing = 0
        for title, facts in compare_runs(store, runs).items():
            names = [name for name in dict.fromkeys(chain.from_iterable(facts)) if self.all or _differs(facts, name)]
            differing += sum(_differs(facts, name) for name in names)
            if names:
                output.print(_section(title, names, facts, self.runs))
                output.print()
        if not differing:
            say(output, f"{' and '.join(run.name for run in runs)} do not differ")
        return 0

    def _compare_losses(self, store: Store, runs: list[RunRecords]) -> int:
        output = console()
        listing = table("losses", "run", "steps", "largest relative difference", "at step", "steps of one run only")
        differences = list(compare_losses(store, runs))
        if not differences:
            raise ConfigurationError(f"no losses to compare: none of {', '.join(self.runs)} has trained")
        for difference in differences:
            at = "" if difference.step is None else difference.step
            listing.add_row(
                *map(plain, (difference.task, difference.run, difference.num_steps, f"{difference.largest:.3g}", at)),
                plain(difference.num_missing),
            )
        output.print(listing)
        return self._verdict(output, sum(not difference.within(self.tolerance) for difference in differences))

    def _verdict(self, output: Console, differing: int) -> int:
        if not self.assert_equal:
            return 0
        say(output, f"\n{count(differing, 'loss curve')} of {self.runs[0]} differ" if differing else "\nthe losses are equal")
        return DIFFERENT if differing else 0


def _differs(facts: list[Facts], name: str) -> bool:
    return any(item.get(name) != facts[0].get(name) for item in facts[1:])


def _section(title: str, names: list[str], facts: list[Facts], runs: list[str]) -> Table:
    with_change = len(runs) == 2
    listing = table(title, *runs, *(["change"] if with_change else []))
    for name in names:
        values = [item.get(name) for item in facts]
        change = [_change(*values)] if with_change else []
        listing.add_row(*map(plain, (name, *map(_text, values), *change)), style="bold" if _differs(facts, name) else "")
    return listing


def _change(old: Any, new: Any) -> str:
    try:
        before, after = (float(str(value).split(" ± ")[0]) for value in (old, new))
    except ValueError:
        return ""
    return f"{after - before:+.4g}" if before != after else ""


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
