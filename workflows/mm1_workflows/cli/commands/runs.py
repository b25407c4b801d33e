"""``mm1 runs``: list runs and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, Completion, command

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.lineage.gates import decisions
from mm1.lineage.records import TaskRecord, read_run, readable_runs
from mm1.lineage.text import duration, scalars, short_name
from mm1_workflows.cli.options import (
    DEFAULT_STORE,
    ClusterOptions,
    FromLine,
    Given,
    StoreArg,
    count_option,
    existing_store,
    stored_run,
)
from mm1_workflows.cli.output import console, say, table
from mm1_workflows.cli.since import parse_since
from mm1_workflows.display.table import styled, task_table
from mm1_workflows.display.view import State, TaskView, reason

STATES = ("done", "failed", "stopped", "running")
"""States of runs in the store."""
CLUSTER_STATES = ("waiting", "running", "done", "failed", "stopped")
"""States of runs on a cluster, where Argo calls a stopped run failed."""
LESS_IMPORTANT = ("cached", "tasks", "work", "started (UTC)")
RECORD_STATES = {state: State(state) for state in ("done", "cached", "failed", "stopped")} | {"unfinished": State.RUNNING}
"""State of a record -> state of a task; an unfinished record may belong to a task that is no longer running."""


def complete_state(partial: str, given: Given) -> list[Completion]:
    """Return the candidates for a state of a run."""
    return [Completion(name) for name in _states("cluster" in given)]


def _states(cluster: bool) -> tuple[str, ...]:
    return CLUSTER_STATES if cluster else STATES


@command(name="runs", help="List runs with state, total work of their tasks, and cache hits.")
@dataclass
class Command(ClusterOptions):
    """``mm1 runs``."""

    run: Annotated[str, stored_run("Run whose tasks to list [default: list all runs].")] = ""
    store: StoreArg = DEFAULT_STORE
    cluster: Annotated[bool, Arg(long=True, help="List the runs in a cluster's namespace instead of those in the store.")] = (
        False
    )
    state: Annotated[
        str,
        Arg(
            long=True,
            value_name="STATE",
            help="Only runs that are done, failed or running; in the store also stopped, on a cluster waiting.",
            completion=FromLine(complete_state),
        ),
    ] = ""
    since: Annotated[
        str, Arg(long=True, value_name="TIME", help="Only runs started within this time (90m, 12h, 7d) or since a date.")
    ] = ""
    limit: Annotated[int, count_option("Maximum number of runs, newest first.", least=1)] = 20

    def __call__(self) -> int:
        """List runs, or the tasks of a run."""
        states = _states(self.cluster)
        if self.state and self.state not in states:
            raise ConfigurationError(f"--state: unknown value {self.state!r}; {suggest(self.state, states)}")
        if self.run and (self.state or self.since):
            raise ConfigurationError("--state and --since select runs; give them without RUN")
        if self.cluster:
            from mm1_workflows.cli.commands import cluster_runs

            if self.run:
                return cluster_runs.list_tasks(self, self.run)
            return cluster_runs.list_runs(self, self.state, parse_since(self.since), self.limit)
        if self.server or self.context or self.namespace:
            raise ConfigurationError("--server, --context and -n require --cluster")
        output = console()
        store = existing_store(self.store)
        if self.run:
            tasks = read_run(store, self.run).own
            output.print(task_table([_view(record) for record in tasks.values()]))
            for line in decisions(store, {name: record.outputs for name, record in tasks.items()}):
                say(output, line)
            return 0
        since = parse_since(self.since)
        runs = readable_runs(store)
        chosen = [run for run in runs if self.state in ("", run.state) and (since is None or run.started >= since)]
        if not chosen:
            say(output, f"no runs in {store.uri}")
            return 0
        listing = table("run", "state", "started (UTC)", "work", "tasks", "cached", "why", less_important=LESS_IMPORTANT)
        for run in chosen[: self.limit]:
            why = ", ".join(f"{short_name(task)} ({outcome})" for task, outcome in run.failures.items())
            started, spent = f"{run.started:%Y-%m-%d %H:%M:%S}", duration(run.seconds)
            listing.add_row(run.name, styled(State(run.state)), started, spent, str(len(run.own)), str(run.cache_hits), why)
        output.print(listing)
        if len(chosen) > self.limit:
            say(output, f"and {len(chosen) - self.limit} older runs: set --limit {len(chosen)}")
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
        result=" ".join(filter(None, (record.manifest.rsplit("/", 1)[-1][:12], scalars(record.outputs)))),
    )
