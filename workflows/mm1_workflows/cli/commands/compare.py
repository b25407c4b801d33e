"""``mm1 compare A B``: two runs side by side, what differs first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cappa import Arg, command
from rich.table import Table

from mm1.lineage.compare import Facts, compare_runs
from mm1.lineage.records import read_run
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, existing_store
from mm1_workflows.cli.output import console, plain, say, table


@command(name="compare", help="Two runs side by side: parameters, losses, scores.")
@dataclass
class Command:
    """``mm1 compare``."""

    first: Annotated[str, Arg(value_name="run-a", help="A run.")]
    second: Annotated[str, Arg(value_name="run-b", help="Another run.")]
    store: StoreArg = DEFAULT_STORE
    all: Annotated[bool, Arg(long=True, help="Also what is equal.")] = False

    def __call__(self) -> int:
        """Print inputs, facts, losses and scores of two runs."""
        shown = console()
        store = existing_store(self.store)
        first, second = (read_run(store, name) for name in (self.first, self.second))
        differing = 0
        for title, (left, right) in compare_runs(store, first, second).items():
            names = [name for name in dict.fromkeys([*left, *right]) if self.all or left.get(name) != right.get(name)]
            differing += len(names)
            if names:
                shown.print(_section(title, names, left, right, self))
                shown.print()
        if not differing:
            say(shown, f"{first.name} and {second.name} do not differ")
        return 0


def _section(title: str, names: list[str], left: Facts, right: Facts, command: Command) -> Table:
    listing = table(title, command.first, command.second, "change")
    for name in names:
        old, new = left.get(name), right.get(name)
        style = "" if old == new else "bold"
        listing.add_row(*map(plain, (name, _text(old), _text(new), _change(old, new))), style=style)
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
