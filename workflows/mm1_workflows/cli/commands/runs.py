"""``mm1 runs``: what ran, and how it went."""

from __future__ import annotations

from mm1.errors import ConfigurationError
from mm1.lineage.records import TaskRecord, all_runs, read_run
from mm1.lineage.text import duration
from mm1.store.open import open_store
from mm1_workflows.cli.commands.output import console, say, table
from mm1_workflows.cli.commands.since import parse_since
from mm1_workflows.cli.tree.looking import Runs
from mm1_workflows.display.table import styled, task_table
from mm1_workflows.display.view import State, TaskView, reason

STATES = ("done", "failed", "running")
RECORD_STATES = {"done": State.DONE, "cached": State.CACHED, "failed": State.FAILED, "unfinished": State.RUNNING}
"""State of a record -> state; whether a task that left no end still runs is not known here."""


def runs(command: Runs) -> int:
    """List runs, or the tasks of one."""
    if command.cluster:
        from mm1_workflows.cli.commands import cluster_runs

        return cluster_runs.runs(command)
    if command.server or command.context or command.namespace:
        raise ConfigurationError("--server, --context and -n are about a cluster: add --cluster")
    output = console()
    store = open_store(command.store)
    if command.run:
        output.print(task_table([_view(record) for record in read_run(store, command.run).tasks.values()]))
        return 0
    if command.state and command.state not in STATES:
        raise ConfigurationError(f"--state {command.state!r}: one of {', '.join(STATES)}")
    since = parse_since(command.since)
    chosen = [run for run in all_runs(store) if command.state in ("", run.state) and (since is None or run.started >= since)]
    if not chosen:
        say(output, f"no runs in {store.uri}")
        return 0
    listing = table("run", "state", "started (UTC)", "work", "tasks", "cached", "why")
    for run in chosen[: command.limit]:
        why = ", ".join(f"{task} ({outcome})" for task, outcome in run.failures.items())
        started, spent = f"{run.started:%Y-%m-%d %H:%M:%S}", duration(run.seconds)
        listing.add_row(run.name, styled(State(run.state)), started, spent, str(len(run.tasks)), str(run.cache_hits), why)
    output.print(listing)
    if len(chosen) > command.limit:
        say(output, f"and {len(chosen) - command.limit} older ones: --limit {len(chosen)}")
    return 0


def _view(record: TaskRecord) -> TaskView:
    return TaskView(
        name=record.task,
        state=RECORD_STATES[record.status],
        started=record.started,
        seconds=record.seconds,
        message=reason(record.ending) if record.ending else "",
        attempts=record.attempts,
        host=str(record.host.get("name") or ""),
        result=record.manifest.rsplit("/", 1)[-1][:12],
    )
