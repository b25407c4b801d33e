r"""Following a run on a cluster to its end: the one loop behind ``--watch``, ``--logs``, ``mm1 watch`` and ``mm1 logs``.

::

    transport.get --> tasks -----------------> display
          |   \--> reasons (Kueue, pods) --/      ^
          \--> readers of the pods' logs --lines-/
          \--> outcome class (the exit code)

The loop asks every second; it survives servers that are restarted, and ends a run whose image cannot be had.
"""

from __future__ import annotations

import time
from dataclasses import replace

from rich.console import Console

from mm1.errors import ConfigurationError, NetworkError, Outcome, Preempted
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.following import nodes, pending
from mm1_workflows.cluster.following.nodes import Task
from mm1_workflows.cluster.following.outcome import Ended, image_problem, outcome_of
from mm1_workflows.cluster.following.patience import Patience
from mm1_workflows.cluster.following.pending import Training, Trainings
from mm1_workflows.cluster.following.show import Display, choose
from mm1_workflows.cluster.following.streams import Streams
from mm1_workflows.cluster.transport.base import NotFound, Transport

POLL_S = 1.0
TRAINING_EVERY = 3
"""Pods and queues of training are looked at every so many polls."""
IMAGE_S = 60.0
"""How long an image may be missing before the run is ended."""
LAST_WORD_S = 30.0
"""How long a run that is ended for a missing image may take for its exit task."""


class Following:
    """Follows one run."""

    def __init__(self, transport: Transport, name: str, display: Display, *, logs: bool, task: str = "") -> None:
        self.transport, self.name, self.display = transport, name, display
        self.streams = Streams(transport, name, task) if logs else None
        self.patience = Patience(tell=display.note)
        self.trainings = Trainings(transport, name)
        self.training = Training()
        self.missing_since: dict[str, float] = {}
        self.polls = 0

    def to_the_end(self) -> Ended:
        """Follow until the run is over.

        Raises:
            NetworkError: the cluster did not answer for too long.
            ConfigurationError: there is no such run, or it may not be read.
            Preempted: somebody removed the run.
        """
        while True:
            workflow = self._look()
            if ended := outcome_of(workflow):
                self._finish()
                return ended
            if problem := self._image_missing(nodes.tasks_of(workflow)):
                return self._give_up(problem)
            self._pass(POLL_S)

    def _look(self) -> Document:
        try:
            workflow = self.patience.ask(lambda: self.transport.get(self.name))
        except NotFound:
            if not self.patience.answered:
                raise
            raise Preempted(f"{self.name}: somebody removed the run while it was followed") from None
        if self.polls % TRAINING_EVERY == 0:
            self._look_at_training()
        self.polls += 1
        why = pending.reasons(self.training)
        self.display.update([_explained(task, why) for task in nodes.tasks_of(workflow)])
        if self.streams:
            self.streams.update(workflow, pending.rank_pods(self.training))
        return workflow

    def _look_at_training(self) -> None:
        try:
            self.training = self.trainings.read()
        except NetworkError:
            return  # the last state stands; the next question for the workflow waits for the server

    def _pass(self, seconds: float) -> None:
        if self.streams:
            self.streams.drain(self.display.line, seconds)
        else:
            time.sleep(seconds)

    def _finish(self) -> None:
        if self.streams:
            self.streams.finish(self.display.line)

    def _image_missing(self, tasks: list[Task]) -> Task | None:
        """A task whose image could not be had for too long."""
        now = time.monotonic()
        missing = {task.name: task for task in tasks if not task.over and image_problem(task.message)}
        self.missing_since = {name: self.missing_since.get(name, now) for name in missing}
        return next((task for name, task in missing.items() if now - self.missing_since[name] >= IMAGE_S), None)

    def _give_up(self, task: Task) -> Ended:
        """End a run that waits for an image; its exit task has a while to run."""
        self.display.note(f"{task.name}: its image cannot be had since {IMAGE_S:.0f} s; the run is being stopped")
        self.patience.ask(lambda: self.transport.shut_down(self.name, "Stop"))
        limit = time.monotonic() + LAST_WORD_S
        strategy = "Stop"
        while outcome_of(self._look()) is None:
            if time.monotonic() > limit:
                if strategy == "Terminate":
                    break
                strategy, limit = "Terminate", limit + LAST_WORD_S
                self.patience.ask(lambda: self.transport.shut_down(self.name, "Terminate"))
            self._pass(POLL_S)
        self._finish()
        return Ended(Outcome.CONFIGURATION, task.name, f"{task.message}; check the profile's images and the pull secret")


def follow(transport: Transport, name: str, console: Console, *, watch: bool, logs: bool, task: str = "") -> int:
    """Follow a run and say how it ended; Ctrl-C leaves it running.

    Returns:
        The exit code: the outcome class, or 130 after Ctrl-C.
    """
    display = choose(console, watch=watch)
    try:
        try:
            ended = Following(transport, name, display, logs=logs, task=task).to_the_end()
        finally:
            display.close()
    except KeyboardInterrupt:
        back = f"`mm1 watch {name} {transport.options}`"
        display.note(f"detached: {name} goes on; come back with {back}, end it with `mm1 stop {name} {transport.options}`")
        return 130
    display.note(farewell(name, ended, transport.options))
    return int(ended.outcome)


def farewell(name: str, ended: Ended, options: str) -> str:
    """The last line: how it ended, and what to do next."""
    if ended.outcome is Outcome.DONE:
        return f"{name} succeeded"
    where = f" at {ended.task}" if ended.task else ""
    said = f": {' '.join(ended.message.split())}" if ended.message else ""
    words = f"{name} failed{where} ({ended.outcome.name.lower()}, exit {int(ended.outcome)}){said}"
    if ended.outcome is Outcome.PREEMPTED and not ended.task:
        words = f"{name} ended (preempted, exit {int(ended.outcome)}){said}"
    if ended.task:
        words += f"\nits log: `mm1 logs {name} --task '{ended.task}' {options}`"
    return f"{words}\nagain, finished steps from the cache: `mm1 retry {name} {options}`"


def check_task(workflow: Document, task: str) -> None:
    """Refuse a task that the run does not have.

    Raises:
        ConfigurationError: with the tasks that it has.
    """
    from mm1.config.resolve import suggest
    from mm1_workflows.cluster.following.streams import wanted

    there = [item.name for item in nodes.tasks_of(workflow)]
    known = [*there, *nodes.spec_tasks(workflow)]
    if task and not any(wanted(task, name) for name in known):
        raise ConfigurationError(f"run {nodes.name_of(workflow)} has no task {task!r}; {suggest(task, sorted(set(known)))}")


def _explained(task: Task, why: dict[str, str]) -> Task:
    """A supervisor that runs is not training that runs: say what it waits for."""
    reason = why.get(task.name, "") if task.phase == "Running" else ""
    return replace(task, message=reason) if reason else task
