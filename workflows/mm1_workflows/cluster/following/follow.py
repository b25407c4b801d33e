r"""Following a run on a cluster to completion: the loop of ``--watch``, ``--logs``, ``mm1 watch`` and ``mm1 logs``.

::

    transport.get --> tasks -----------------> display
          |   \--> reasons (Kueue, pods) --/      ^
          \--> readers of the pods' logs --lines-/
          \--> outcome class (the exit code)

The loop polls every second. It survives restarts of servers, and stops a run whose image cannot be pulled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from rich.console import Console

from mm1.errors import ConfigurationError, Ending, NetworkError, Outcome, Preempted
from mm1.lineage.gates import reasons
from mm1_components.ranks.jobset.pods import REMEDY, needs_fix
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following import nodes, pending
from mm1_workflows.cluster.following.nodes import FollowedTask
from mm1_workflows.cluster.following.outcome import ending_of
from mm1_workflows.cluster.following.patience import Patience
from mm1_workflows.cluster.following.pending import Training, Trainings
from mm1_workflows.cluster.following.streams import Streams
from mm1_workflows.cluster.following.view import views_of
from mm1_workflows.cluster.transport.base import NotFound, Transport
from mm1_workflows.display.screen import Display, LogDisplay, choose

POLL_S = 1.0
TRAINING_EVERY = 3
"""Number of polls of the workflow per poll of the training's pods and queues."""
IMAGE_S = 60.0
"""Seconds after which a run is stopped if one of its pods cannot start without a fix."""
EXIT_S = 30.0
"""Seconds for the exit task of such a run."""


class Following:
    """Follows a run."""

    def __init__(
        self,
        transport: Transport,
        name: str,
        display: Display,
        *,
        logs: bool,
        task: str = "",
        poll_s: float = POLL_S,
        image_s: float = IMAGE_S,
    ) -> None:
        """Prepare to follow.

        Args:
            transport: the connection to the cluster.
            name: name of the run.
            display: display for tasks, logs and notes.
            logs: whether to read logs.
            task: only read the logs of this task; empty for all.
            poll_s: polling interval in seconds.
            image_s: seconds after which a run is stopped if one of its pods cannot start without a fix.
        """
        self.transport, self.name, self.display = transport, name, display
        self.poll_s, self.image_s = poll_s, image_s
        self.streams = Streams(transport, name, task) if logs else None
        self.patience = Patience(tell=display.note)
        self.trainings = Trainings(transport, name)
        self.training = Training()
        self.stuck: dict[str, tuple[float, str]] = {}
        """Task that cannot start without a fix -> time since then, and the first reason."""
        self.polls = 0
        self.refused: list[str] = []
        """Gates that refused the model, when the run has ended."""
        self.decided: list[str] = []
        """Decisions of its steps with their reasons, when the run has ended."""

    def to_the_end(self) -> Ending:
        """Follow until the run has ended.

        Raises:
            NetworkError: the cluster did not answer for too long.
            ConfigurationError: there is no such run, or the account may not read it.
            Preempted: the run was deleted.
        """
        while True:
            workflow, tasks = self._look()
            if ending := ending_of(workflow):
                self._finish()
                self.refused = nodes.refusing(tasks)
                self.decided = list(reasons({task.name: task.outputs for task in tasks}))
                return ending
            if stuck := self._stuck_for_too_long(tasks):
                return self._give_up(stuck)
            self._pass(self.poll_s)

    def _look(self) -> tuple[Document, list[FollowedTask]]:
        try:
            workflow = self.patience.ask(lambda: self.transport.get(self.name))
        except NotFound:
            if not self.patience.answered:
                raise
            raise Preempted(f"{self.name}: the run was deleted") from None
        if self.polls % TRAINING_EVERY == 0:
            self._look_at_training()
        self.polls += 1
        reasons = pending.reasons(self.training)
        tasks = self._steady(_explained(task, reasons) for task in nodes.tasks_of(workflow))
        self.display.update(views_of(workflow, tasks))
        if self.streams:
            self.streams.update(workflow, pending.rank_pods(self.training))
        return workflow, tasks

    def _look_at_training(self) -> None:
        try:
            self.training = self.trainings.read()
        except NetworkError:
            return  # keep the last state; the next request for the workflow waits for the server

    def _steady(self, tasks: Iterable[FollowedTask]) -> list[FollowedTask]:
        """Return the tasks; those that cannot start without a fix keep their first reason.

        The kubelet alternates between ErrImagePull and ImagePullBackOff; only ErrImagePull has the cause.
        """
        tasks, now = list(tasks), time.monotonic()
        stuck = [task for task in tasks if not task.over and needs_fix(task.message)]
        self.stuck = {task.name: self.stuck.get(task.name, (now, task.message)) for task in stuck}
        return [replace(task, message=self.stuck[task.name][1]) if task.name in self.stuck else task for task in tasks]

    def _stuck_for_too_long(self, tasks: list[FollowedTask]) -> FollowedTask | None:
        """Return a task whose pod has waited too long (a supervisor stops its training by itself)."""
        limit = time.monotonic() - self.image_s
        waiting = [task for task in tasks if task.phase == "Pending" and task.name in self.stuck]
        return next((task for task in waiting if self.stuck[task.name][0] <= limit), None)

    def _pass(self, seconds: float) -> None:
        if self.streams:
            self.streams.drain(self.display.log, seconds)
        else:
            time.sleep(seconds)

    def _finish(self) -> None:
        if self.streams:
            self.streams.finish(self.display.log)

    def _give_up(self, task: FollowedTask) -> Ending:
        """Stop a run that cannot start without a fix, with a time limit for its exit task."""
        self.display.note(f"{task.name}: its pod could not start within {self.image_s:.0f} s; stopping the run")
        self.patience.ask(lambda: self.transport.shut_down(self.name, "Stop"))
        limit = time.monotonic() + EXIT_S
        strategy = "Stop"
        while ending_of(self._look()[0]) is None:
            if time.monotonic() > limit:
                if strategy == "Terminate":
                    break
                strategy, limit = "Terminate", limit + EXIT_S
                self.patience.ask(lambda: self.transport.shut_down(self.name, "Terminate"))
            self._pass(self.poll_s)
        self._finish()
        message = f"{task.message}; {REMEDY}"
        return Ending(outcome=Outcome.CONFIGURATION, message=message, where=task.name)


def follow(transport: Transport, name: str, console: Console, *, watch: bool, logs: bool, task: str = "") -> int:
    """Follow a run and print its outcome; Ctrl-C detaches and leaves it running.

    Returns:
        The exit code: the outcome class, or 130 after Ctrl-C.
    """
    display = choose(console) if watch else LogDisplay(console)
    try:
        try:
            following = Following(transport, name, display, logs=logs, task=task)
            ending = following.to_the_end()
        finally:
            display.close()
    except KeyboardInterrupt:
        watch_command, stop_command = (f"`mm1 {verb} {name} {transport.options}`" for verb in ("watch", "stop"))
        display.note(f"detached: {name} continues; watch it with {watch_command}, stop it with {stop_command}")
        return 130
    display.note(farewell(name, ending, transport.options, following.refused, following.decided))
    return int(ending.outcome)


def farewell(name: str, ending: Ending, options: str, refused: Iterable[str] = (), decided: Iterable[str] = ()) -> str:
    """Format the last lines: how the run ended (``where`` is the task), and the next commands.

    Args:
        name: name of the run.
        ending: how it ended.
        options: options of the cluster for commands.
        refused: gates that refused the model.
        decided: decisions of its steps, with their reasons.
    """
    if ending.outcome is Outcome.DONE:
        return "\n".join([f"{name} succeeded", *decided, *refusals(name, refused, options)])
    by_user = ending.outcome is Outcome.PREEMPTED and not ending.where
    verb = "was stopped" if by_user or ending.outcome is Outcome.BUDGET else "failed"
    at_task = f" at {ending.where}" if ending.where else ""
    message = f": {' '.join(ending.message.split())}" if ending.message else ""
    lines = [f"{name} {verb}{at_task} ({ending.outcome.label}, exit code {int(ending.outcome)}){message}"]
    if ending.where:
        lines.append(f"its log: `mm1 logs {name} --task '{ending.where}' {options}`")
    if ending.outcome is Outcome.BUDGET:
        return "\n".join([*lines, "submit it again with a larger device_hours: training resumes, finished steps are cached"])
    return "\n".join([*lines, f"retry it, with finished steps from the cache: `mm1 retry {name} {options}`"])


def refusals(name: str, refused: Iterable[str], options: str) -> list[str]:
    """Format a line for each gate that refused the model."""
    hint = "decision=fail; its log names the failed rules"
    return [f"{task}: {hint}: `mm1 logs {name} --task {task} {options}`" for task in refused]


def check_task(workflow: Document, task: str) -> None:
    """Check that the run has a task.

    Raises:
        ConfigurationError: there is no such task; the message suggests another.
    """
    from mm1.config.resolve import suggest
    from mm1_workflows.cluster.following.streams import is_selected

    known = [*(item.name for item in nodes.tasks_of(workflow)), *nodes.spec_tasks(workflow)]
    if task and not any(is_selected(task, name) for name in known):
        raise ConfigurationError(f"run {nodes.name_of(workflow)} has no task {task!r}; {suggest(task, sorted(set(known)))}")


def _explained(task: FollowedTask, reasons: dict[str, str]) -> FollowedTask:
    """Return a task with the reason why its training is pending, although its supervisor is running."""
    reason = reasons.get(task.name, "") if task.phase == "Running" else ""
    return replace(task, message=reason) if reason else task
