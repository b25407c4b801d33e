"""``mm1 compare A B``: two runs side by side, what differs first."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mm1.lineage.compare import Facts, compare_runs
from mm1.lineage.records import read_run
from mm1.store.open import open_store
from mm1_workflows.cli.commands.output import console, plain, say, table
from mm1_workflows.cli.tree.looking import Compare


def compare(command: Compare) -> int:
    """Print inputs, facts, losses and scores of two runs."""
    shown = console()
    store = open_store(command.store)
    first, second = (read_run(store, name) for name in (command.first, command.second))
    differing = 0
    for title, (left, right) in compare_runs(store, first, second).items():
        names = [name for name in dict.fromkeys([*left, *right]) if command.all or left.get(name) != right.get(name)]
        differing += len(names)
        if names:
            shown.print(_section(title, names, left, right, command))
            shown.print()
    if not differing:
        say(shown, f"{first.name} and {second.name} do not differ")
    return 0


def _section(title: str, names: list[str], left: Facts, right: Facts, command: Compare) -> Table:
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
