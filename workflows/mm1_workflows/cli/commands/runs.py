"""``mm1 runs``: what ran, and how it went."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console

from mm1.errors import ConfigurationError
from mm1.lineage.records import RunRecords, all_runs, read_run
from mm1.lineage.text import duration
from mm1.store.open import open_store
from mm1_workflows.cli.commands.output import console, plain, say, table
from mm1_workflows.cli.commands.since import parse_since
from mm1_workflows.cli.tree.looking import Runs

STATES = ("done", "failed", "running")
COLOURS = {"done": "green", "failed": "red", "running": "cyan"}


def runs(command: Runs) -> int:
    """List runs, or the tasks of one."""
    if command.cluster:
        from mm1_workflows.cli.commands import cluster_runs

        return cluster_runs.runs(command)
    if command.server or command.context or command.namespace:
        raise ConfigurationError("--server, --context and -n are about a cluster: add --cluster")
    shown = console()
    store = open_store(command.store)
    if command.run:
        _one(shown, read_run(store, command.run))
        return 0
    if command.state and command.state not in STATES:
        raise ConfigurationError(f"--state {command.state!r}: one of {', '.join(STATES)}")
    since = parse_since(command.since)
    found = [run for run in all_runs(store) if command.state in ("", run.state)]
    found = [run for run in found if since is None or run.started >= since]
    if not found:
        say(shown, f"no runs in {store.uri}")
        return 0
    listing = table("run", "state", "started (UTC)", "work", "steps", "cached", "why")
    for run in found[: command.limit]:
        why = ", ".join(f"{task} ({outcome})" for task, outcome in run.failures.items())
        state = f"[{COLOURS[run.state]}]{run.state}[/]"
        listing.add_row(
            run.name, state, _time(run.started), duration(run.seconds), str(len(run.tasks)), str(run.cache_hits), why
        )
    shown.print(listing)
    if len(found) > command.limit:
        say(shown, f"and {len(found) - command.limit} older ones: --limit {len(found)}")
    return 0


def _one(shown: Console, run: RunRecords) -> None:
    listing = table("task", "step", "state", "started (UTC)", "time", "attempts", "outcome")
    for task, record in run.tasks.items():
        state = "cached" if record.cache_hit else record.state
        colour = COLOURS[record.state]
        outcome = record.message or record.manifest.rsplit("/", 1)[-1][:12]
        spent, attempts = duration(record.seconds or 0.0), str(record.attempts)
        listing.add_row(task, record.step, f"[{colour}]{state}[/]", _time(record.started), spent, attempts, plain(outcome))
    shown.print(listing)


def _time(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else ""
