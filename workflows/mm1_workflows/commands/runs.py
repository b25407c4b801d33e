"""``mm1 runs``: what ran, and how it went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.console import Console

from mm1.errors import ConfigurationError
from mm1.store.open import open_store
from mm1_workflows import records
from mm1_workflows.commands.output import console, plain, say, table
from mm1_workflows.local.display import duration
from mm1_workflows.records import RunRecords
from mm1_workflows.tree.looking import Runs

STATES = ("done", "failed", "running")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
COLOURS = {"done": "green", "failed": "red", "running": "cyan"}


def runs(command: Runs) -> int:
    """List runs, or the tasks of one."""
    if command.cluster:
        from mm1_workflows.commands import cluster_runs

        return cluster_runs.runs(command)
    if command.server or command.context or command.namespace:
        raise ConfigurationError("--server, --context and -n are about a cluster: add --cluster")
    shown = console()
    store = open_store(command.store)
    if command.run:
        _one(shown, records.read_run(store, command.run))
        return 0
    if command.state and command.state not in STATES:
        raise ConfigurationError(f"--state {command.state!r}: one of {', '.join(STATES)}")
    since = moment(command.since)
    found = [run for run in records.all_runs(store) if command.state in ("", run.state)]
    found = [run for run in found if since is None or datetime.fromisoformat(run.started) >= since]
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


def moment(text: str, now: datetime | None = None) -> datetime | None:
    """``--since``: a time back from now (90m, 12h, 7d), or a date or time (UTC unless it says otherwise).

    Raises:
        ConfigurationError: it is neither.
    """
    if not text:
        return None
    amount, unit = text[:-1], text[-1]
    if unit in UNITS and amount.isdigit():
        return (now or datetime.now(UTC)) - timedelta(**{UNITS[unit]: int(amount)})
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--since {text!r}: a time like 90m, 12h or 7d is wanted, or a date like 2026-11-24") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _one(shown: Console, run: RunRecords) -> None:
    listing = table("task", "step", "state", "started (UTC)", "time", "attempts", "outcome")
    for task, record in run.tasks.items():
        state = "cached" if record.get("cache_hit") else record["state"]
        colour = COLOURS[record["state"]]
        outcome = record.get("message") or str((record.get("outputs") or {}).get("manifest", "")).rsplit("/", 1)[-1][:12]
        spent = duration(float(record.get("seconds", 0)))
        attempts = str(record.get("attempts", 1))
        listing.add_row(
            task, record["step"], f"[{colour}]{state}[/]", _time(record["started"]), spent, attempts, plain(outcome)
        )
    shown.print(listing)


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
