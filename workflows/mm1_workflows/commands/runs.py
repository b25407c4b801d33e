"""``mm1 runs``: what ran, and how it went."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mm1.errors import ConfigurationError
from mm1.store.open import open_store
from mm1_workflows import records
from mm1_workflows.commands.tree import Runs
from mm1_workflows.local.display import duration
from mm1_workflows.records import RunRecords

STATES = ("done", "failed", "running")
COLOURS = {"done": "green", "failed": "red", "running": "cyan"}


def runs(command: Runs) -> int:
    """List runs, or the tasks of one."""
    console = Console(soft_wrap=True, highlight=False)
    store = open_store(command.store)
    if command.run:
        _one(console, records.read_run(store, command.run))
        return 0
    if command.state and command.state not in STATES:
        raise ConfigurationError(f"--state {command.state!r}: one of {', '.join(STATES)}")
    found = [run for run in records.all_runs(store) if command.state in ("", run.state)]
    if not found:
        console.print(f"no runs in {store.uri}", markup=False)
        return 0
    table = _table("run", "state", "started (UTC)", "work", "steps", "cached", "why")
    for run in found[: command.limit]:
        why = ", ".join(f"{task} ({outcome})" for task, outcome in run.failures.items())
        state = f"[{COLOURS[run.state]}]{run.state}[/]"
        table.add_row(run.name, state, _time(run.started), duration(run.seconds), str(len(run.tasks)), str(run.cache_hits), why)
    console.print(table)
    if len(found) > command.limit:
        console.print(f"and {len(found) - command.limit} older ones: --limit {len(found)}")
    return 0


def _one(console: Console, run: RunRecords) -> None:
    table = _table("task", "step", "state", "started (UTC)", "time", "attempts", "outcome")
    for task, record in run.tasks.items():
        state = "cached" if record.get("cache_hit") else record["state"]
        colour = COLOURS[record["state"]]
        outcome = record.get("message") or (record.get("outputs") or {}).get("manifest", "")
        spent = duration(float(record.get("seconds", 0)))
        attempts = str(record.get("attempts", 1))
        table.add_row(task, record["step"], f"[{colour}]{state}[/]", _time(record["started"]), spent, attempts, _plain(outcome))
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _time(text: str) -> str:
    return text[:19].replace("T", " ")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
