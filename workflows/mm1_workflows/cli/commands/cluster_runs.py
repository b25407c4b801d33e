"""``mm1 runs --cluster``: the runs of a cluster's namespace as Argo knows them, or the tasks of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mm1.errors import ConfigurationError
from mm1.lineage.text import duration
from mm1_workflows.argo.document import Document
from mm1_workflows.cli.commands.output import console, plain, say, table
from mm1_workflows.cli.commands.since import parse_since
from mm1_workflows.cli.tree.looking import Runs
from mm1_workflows.cluster.following import nodes
from mm1_workflows.cluster.following.show import STYLES
from mm1_workflows.cluster.transport.connect import connect

STATES = {"Pending": "waiting", "Running": "running", "Succeeded": "done", "Failed": "failed", "Error": "failed"}
COLOURS = {"waiting": "yellow", "running": "cyan", "done": "green", "failed": "red"}


def runs(command: Runs) -> int:
    """List runs, or the tasks of one."""
    states = sorted(set(STATES.values()))
    if command.state and command.state not in states:
        raise ConfigurationError(f"--state {command.state!r}: one of {', '.join(states)}")
    since = parse_since(command.since)
    transport = connect(command)
    if command.run:
        _tasks(transport.get(command.run))
        return 0
    rows = [row for row in map(_row, transport.list_workflows()) if command.state in ("", row["state"])]
    rows = [row for row in rows if since is None or row["started"] >= since]
    found = sorted(rows, key=lambda row: row["started"], reverse=True)
    shown = console()
    if not found:
        say(shown, f"no runs in namespace {transport.namespace}")
        return 0
    listing = table("run", "state", "started (UTC)", "time", "steps", "from", "why")
    for row in found[: command.limit]:
        state = f"[{COLOURS[row['state']]}]{row['state']}[/]"
        started = f"{row['started']:%Y-%m-%d %H:%M:%S}"
        listing.add_row(row["name"], state, started, duration(row["seconds"]), row["steps"], row["origin"], plain(row["why"]))
    shown.print(listing)
    if len(found) > command.limit:
        say(shown, f"and {len(found) - command.limit} older ones: --limit {len(found)}")
    return 0


def _row(workflow: Document) -> dict[str, Any]:
    status, metadata = nodes.status_of(workflow), workflow["metadata"]
    labels = metadata.get("labels") or {}
    started = nodes.moment(status.get("startedAt")) or nodes.moment(metadata["creationTimestamp"]) or datetime.now(UTC)
    ended = nodes.moment(status.get("finishedAt")) or datetime.now(UTC)
    template = labels.get("workflows.argoproj.io/workflow-template", "")
    return {
        "name": metadata["name"],
        "state": STATES.get(nodes.phase_of(workflow), "waiting"),
        "started": started,
        "seconds": max(0.0, (ended - started).total_seconds()),
        "steps": status.get("progress", ""),
        "origin": labels.get("workflows.argoproj.io/cron-workflow") or (f"template/{template}" if template else ""),
        "why": " ".join(str(status.get("message") or "").split()),
    }


def _tasks(workflow: Document) -> None:
    listing = table("task", "phase", "time", "node", "attempts", "message")
    now = datetime.now(UTC)
    for task in nodes.tasks_of(workflow):
        seconds = task.seconds(now)
        spent = "" if seconds is None or not task.attempts else duration(seconds)
        phase = f"[{STYLES.get(task.phase, 'default')}]{task.phase.lower()}[/]"
        listing.add_row(plain(task.name), phase, spent, task.host, str(len(task.attempts) or ""), plain(task.message))
    console().print(listing)
