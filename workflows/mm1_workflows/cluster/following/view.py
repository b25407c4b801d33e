"""Views of the tasks of a run on a cluster for the display, with the same states as a local run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mm1.errors import Ending, Outcome
from mm1_components.kube.pods import KILLED, TERMINATED
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following.nodes import FAILED, WAITING, FollowedTask, phase_of, tasks_of
from mm1_workflows.cluster.following.outcome import attempt_outcome, stopped
from mm1_workflows.display.view import State, TaskView, reason

STATES = {
    WAITING: State.WAITING,
    "Pending": State.WAITING,
    "Running": State.RUNNING,
    "Succeeded": State.DONE,
    "Failed": State.FAILED,
    "Error": State.FAILED,
    "Skipped": State.SKIPPED,
    "Omitted": State.OMITTED,
}
"""Argo's phase -> state."""
STOPPED_CODES = (None, int(Outcome.PREEMPTED), KILLED, TERMINATED)
"""Exit codes of pods that end because of a shutdown of the run."""


def views_of(workflow: Document, tasks: Sequence[FollowedTask] | None = None) -> list[TaskView]:
    """Return the views of the tasks of a run.

    Args:
        workflow: the workflow object.
        tasks: tasks of the workflow, if they have more precise messages than the workflow.
    """
    now = datetime.now(UTC)
    shut_down = bool(stopped(workflow))
    return [_view(task, now, shut_down) for task in (tasks_of(workflow) if tasks is None else tasks)]


def run_state(workflow: Document) -> State:
    """Return the state of a run: stopped if a user stopped it before it succeeded."""
    state = STATES.get(phase_of(workflow), State.WAITING)
    return State.STOPPED if state is State.FAILED and stopped(workflow) else state


def _view(task: FollowedTask, now: datetime, shut_down: bool) -> TaskView:
    state = _state(task, shut_down)
    message = task.message
    if state in (State.FAILED, State.RETRYING):
        message = reason(Ending(outcome=attempt_outcome(task), message=message))
    elif state.over:
        message = ""
    return TaskView(
        name=task.name,
        state=state,
        started=task.started if task.attempts else None,
        seconds=task.seconds(now) if task.attempts else None,
        progress=task.progress,
        message=message,
        attempts=len(task.attempts),
        host=task.host,
    )


def _state(task: FollowedTask, shut_down: bool) -> State:
    if task.phase == "Running" and task.attempts and task.attempts[-1].phase in FAILED:
        return State.RETRYING
    state = STATES.get(task.phase, State.WAITING)
    if state is State.FAILED and shut_down and (not task.attempts or task.attempts[-1].exit_code in STOPPED_CODES):
        return State.STOPPED
    return state
