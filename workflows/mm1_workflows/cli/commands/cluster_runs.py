"""``mm1 runs --cluster``: list the runs in a cluster's namespace, or the tasks of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mm1.lineage.gates import reasons
from mm1.lineage.text import duration
from mm1_workflows.argo.document import CRON_LABEL, TEMPLATE_LABEL, Document
from mm1_workflows.cli.options import ClusterOptions
from mm1_workflows.cli.output import console, plain, say, table
from mm1_workflows.cluster.following import nodes
from mm1_workflows.cluster.following.follow import refusals
from mm1_workflows.cluster.following.view import run_state, views_of
from mm1_workflows.cluster.transport.connect import connect
from mm1_workflows.display.table import styled, task_table
from mm1_workflows.display.view import State

LESS_IMPORTANT = ("from", "tasks", "time", "started (UTC)")


@dataclass(frozen=True)
class ClusterRun:
    """A run in the list."""

    name: str
    state: State
    started: datetime
    seconds: float
    progress: str
    origin: str
    """The schedule or template that it was created from."""
    message: str


def list_tasks(cluster: ClusterOptions, name: str) -> int:
    """Print the tasks of a run."""
    transport, output = connect(cluster), console()
    workflow = transport.get(name)
    tasks = nodes.tasks_of(workflow)
    output.print(task_table(views_of(workflow, tasks)))
    for line in reasons({task.name: task.outputs for task in tasks}):
        say(output, line)
    for line in refusals(name, nodes.refusing(tasks), transport.options):
        say(output, line)
    return 0


def list_runs(cluster: ClusterOptions, state: str, since: datetime | None, limit: int) -> int:
    """List runs, newest first.

    Args:
        cluster: options of the cluster.
        state: only runs in this state; empty for all.
        since: only runs that started then or later.
        limit: maximum number of runs.
    """
    transport = connect(cluster)
    output = console()
    chosen = [run for run in map(_run, transport.list_workflows()) if state in ("", run.state.value)]
    chosen = [run for run in chosen if since is None or run.started >= since]
    if not chosen:
        say(output, f"no runs in namespace {transport.namespace}")
        return 0
    listing = table("run", "state", "started (UTC)", "time", "tasks", "from", "why", less_important=LESS_IMPORTANT)
    for run in sorted(chosen, key=lambda run: run.started, reverse=True)[:limit]:
        started, spent = f"{run.started:%Y-%m-%d %H:%M:%S}", duration(run.seconds)
        listing.add_row(run.name, styled(run.state), started, spent, run.progress, run.origin, plain(run.message))
    output.print(listing)
    if len(chosen) > limit:
        say(output, f"and {len(chosen) - limit} older runs: set --limit {len(chosen)}")
    return 0


def _run(workflow: Document) -> ClusterRun:
    status, metadata = nodes.status_of(workflow), workflow["metadata"]
    labels = metadata.get("labels") or {}
    started = nodes.moment(status.get("startedAt")) or nodes.moment(metadata["creationTimestamp"]) or datetime.now(UTC)
    ended = nodes.moment(status.get("finishedAt")) or datetime.now(UTC)
    template = labels.get(TEMPLATE_LABEL, "")
    return ClusterRun(
        name=metadata["name"],
        state=run_state(workflow),
        started=started,
        seconds=max(0.0, (ended - started).total_seconds()),
        progress=status.get("progress", ""),
        origin=labels.get(CRON_LABEL) or (f"template/{template}" if template else ""),
        message=" ".join(str(status.get("message") or "").split()),
    )
