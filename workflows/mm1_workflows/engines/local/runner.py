r"""The local runner: runs the graph of a workflow as processes on this machine.

::

    waiting --dependencies done, cores free--> running --exit code 0--> done | cached
       \-- when is false --> skipped              \-- retried class --> retrying --backoff--> running
                                                   \-- else --> failed: no new tasks are started, the rest is omitted
                                                         (with `failFast: false`: only what depends on the failed one)

It has the semantics of Argo: the same argv per task, parameters, ``when``, loops, retries by exit code, and an exit task that
always runs. A single thread polls the processes; :class:`Instance` is the state of a task. The items of a loop share the cores
(:mod:`mm1_workflows.engines.local.loops`).
"""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from mm1 import machine
from mm1.errors import ConfigurationError, DataError, Ending, Mm1Error, Outcome
from mm1.lineage.records import record_key
from mm1.store.base import Store
from mm1_components.wrapper.arguments import METRICS_FLAG
from mm1_components.wrapper.pools import Pool
from mm1_workflows.argo.expressions import TASK_OUTPUT, substitute
from mm1_workflows.argo.graph import Graph, TaskNode
from mm1_workflows.argo.lists import listed
from mm1_workflows.argo.variables import expand
from mm1_workflows.authoring import profiles
from mm1_workflows.display.screen import Display
from mm1_workflows.display.view import State
from mm1_workflows.engines.local import loops, process
from mm1_workflows.engines.local.earlier import EarlierRecords, may_record, record_label
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.state import SUCCESS, Instance
from mm1_workflows.engines.local.stopping import Overtime
from mm1_workflows.rules.subset import is_string_list

log = logging.getLogger(__name__)

POLL_S = 0.03
REFRESH_S = 0.25
"""Interval of display updates while no state changes, s."""
INTERRUPTED = 128 + signal.SIGINT


@dataclass
class RunResult:
    """The result of a run."""

    instances: list[Instance]
    status: str
    """Succeeded, Failed or Stopped."""
    exit_code: int
    failed: Instance | None = None
    """The first task that failed."""


class Runner:
    """Runner of a workflow in a locked run folder."""

    def __init__(
        self,
        graph: Graph,
        values: dict[str, str],
        folder: RunFolder,
        store: Store,
        display: Display,
        *,
        cores: int | None = None,
        use_cache: bool = True,
        metrics_port: int | None = None,
        profile: profiles.Profile | None = None,
    ) -> None:
        self.graph = graph
        self.values = values
        self.folder = folder
        self.store = store
        self.display = display
        self.cores = cores or machine.cores()
        self.use_cache = use_cache
        self.metrics_port = metrics_port
        self.profile = profile or profiles.current()
        self.instances: dict[str, list[Instance]] = {name: [_single(task)] for name, task in graph.tasks.items()}
        self.expanded: set[str] = set()
        self.earlier = EarlierRecords(store, folder.run)
        self.has_changed = True
        self.displayed = 0.0
        self.signals = 0
        self.signal_code = 0
        self.started = time.monotonic()
        self.limit_s = graph.timeout_s

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> RunResult:
        """Run to completion; failures and signals are part of the result."""
        with self._watch_signals(), self._no_orphans():
            self._supersede()
            while not self.signals and not all(item.state.over for item in self._all()):
                self._poll_all()
                self._advance()
                self._display()
                time.sleep(POLL_S)
            if self.signals:
                self._stop()
            elif self.graph.on_exit:
                self.limit_s = None  # as in Argo, the exit task runs after it
                self._run_exit_task(self.graph.on_exit, "Failed" if self._failed() else "Succeeded")
        self._display()
        self.display.close()
        failed = self._failed()
        status = "Stopped" if self.signals else "Failed" if failed else "Succeeded"
        return RunResult(self._all(), status, self.signal_code or (int(failed.ending.outcome) if failed else 0), failed)

    def _all(self) -> list[Instance]:
        return [item for group in self.instances.values() for item in group]

    def _failed(self) -> Instance | None:
        failed = [item for item in self._all() if item.state is State.FAILED]
        return min(failed, key=lambda item: item.ended) if failed else None

    def _display(self) -> None:
        """Update the display after a change of state, and regularly to refresh times."""
        if self.has_changed or time.monotonic() - self.displayed >= REFRESH_S:
            self.has_changed, self.displayed = False, time.monotonic()
            self.display.update([view for group in self.instances.values() for view in loops.views(group)])

    def _poll_all(self) -> None:
        for item in self._all():
            if item.process is not None:
                self._poll(item)
        self._display()  # before a failed task is retried

    def _advance(self) -> None:
        """Start the ready tasks that fit; after a failure, omit the tasks that it prevents."""
        why = self._limit_reached()
        if why:
            ahead = [item for item in self._all() if not item.state.over]
            if any(item.process for item in ahead):
                return  # they are being stopped
            if ahead and not self._failed():
                self._fail(ahead[0], _unhandled(why))
        is_over = bool(why) or (self.graph.fail_fast and self._failed() is not None)
        free = self.cores - sum(self._cost(item) for item in self._all() if item.state is State.RUNNING)
        for name, task in self.graph.tasks.items():
            group = self.instances[name]
            if is_over or self._is_prevented(task):
                for item in group:
                    if item.state in (State.WAITING, State.RETRYING):
                        self._set(item, State.OMITTED)
            elif name in self.expanded or self._expand(task):
                for item in self.instances[name]:
                    if item.state in (State.WAITING, State.RETRYING) and time.monotonic() >= item.not_before:
                        free -= self._start_if_room(item, free)

    def _is_prevented(self, task: TaskNode) -> bool:
        """Whether a task that it depends on has ended badly."""
        return any(item.state.over and not item.state.good for name in task.depends for item in self.instances[name])

    # -- readiness ----------------------------------------------------------------------------------------------------

    def _expand(self, task: TaskNode) -> bool:
        """Evaluate a task's condition and expand its loop after its dependencies have ended; True if it can start."""
        before = [item for name in task.depends for item in self.instances[name]]
        if not all(item.state.good for item in before):
            return False
        self.expanded.add(task.name)
        group = self.instances[task.name]
        try:
            if task.when and not task.when.holds(self._task_output(task.when.task, task.when.output)):
                self._set(group[0], State.SKIPPED)
                self._supersede()
                return False
            if task.loop is not None:
                self.instances[task.name] = _looped(task, self._items(task, task.loop))
                self._supersede()
        except ConfigurationError as error:
            self._fail(group[0], Ending.of(error))
            return False
        return True

    def _supersede(self) -> None:
        """Mark the records of earlier attempts whose tasks this attempt does not have, as far as its tasks are known."""
        tasks = [*self.graph.tasks.values(), *([self.graph.on_exit] if self.graph.on_exit else [])]
        self.earlier.supersede(lambda name: any(self._may_record(task, name) for task in tasks))

    def _may_record(self, task: TaskNode, name: str) -> bool:
        group = self.instances.get(task.name, [])
        if any(item.state is State.SKIPPED for item in group):
            return False
        if task.loop is None or task.name not in self.expanded:
            return may_record(task, name)
        return name in [self._record_name(item) for item in group]

    def _record_name(self, item: Instance) -> str:
        return substitute(record_label(item.task), lambda ref: self._lookup(ref, item, {}))

    def _items(self, task: TaskNode, loop: str) -> list[str]:
        text = substitute(loop, lambda name: self._lookup(name, None, {}))
        if not is_string_list(text):
            raise ConfigurationError(f"task {task.name}: expected a JSON list of strings to loop over, got {text!r}")
        items: list[str] = json.loads(text)
        return items

    def _start_if_room(self, item: Instance, free: int) -> int:
        """Start a task if enough cores are free, and return the number of cores that it takes."""
        cost = self._cost(item)
        limit = self.graph.parallelism
        if cost > free or (limit is not None and sum(other.process is not None for other in self._all()) >= limit):
            return 0
        self._start(item, "Running")
        return cost

    def _cost(self, item: Instance) -> int:
        if not self._is_heavy(item):
            return min(math.ceil(self._pool(item).cpus), self.cores)
        return loops.cores_of_item(len(self.instances.get(item.task.name, ())), self.cores)

    def _is_heavy(self, item: Instance) -> bool:
        """Whether a task takes all cores of this machine, or its share of them in a loop: those for GPU nodes do."""
        return self._pool(item).image != "cpu"

    def _pool(self, item: Instance) -> Pool:
        template = item.task.template
        return self.profile.pool(template.launches or template.pool)

    # -- one task -----------------------------------------------------------------------------------------------------

    def _start(self, item: Instance, status: str) -> None:
        template, folder = item.task.template, self.folder.task(item.key).absolute()
        given = {
            name: substitute(value, lambda ref: self._lookup(ref, item, {}, status))
            for name, value in item.task.arguments.items()
        }
        inputs = {name: given.get(name, default or "") for name, default in template.inputs.items()}

        def lookup(reference: str) -> str:
            return self._lookup(reference, item, inputs, status)

        env: dict[str, str] = {}
        for name, value in template.env.items():
            env[name] = expand(substitute(value, lookup), env)
        argv = [expand(word, env) for word in process.argv_of(template, folder, lookup)]
        if template.step and not self.use_cache:
            argv.append("--no-cache")
        if template.step and template.launches and self.metrics_port:
            argv.append(f"{METRICS_FLAG}={self.metrics_port}")
        item.record_name = process.argument(argv, "--task")
        log.debug("%s: %s", item.label, argv)
        item.cores = loops.free_cores(self._cost(item), self.cores, self._all()) if self._is_heavy(item) else frozenset()
        try:
            process.start(item, argv, env, self.folder)
        except OSError as error:
            ending = Ending.of(error)
            self._fail(item, replace(ending, message=f"{argv[0]} cannot be started: {ending.message}"))
            return
        self._set(item, State.RUNNING)

    def _poll(self, item: Instance) -> None:
        assert item.process is not None
        folder = self.folder.task(item.key)
        item.progress = process.read_progress(folder / "progress") or item.progress
        item.figures = process.read_figures(folder) or item.figures
        code = item.process.poll()
        if code is None:
            self._enforce_limit(item)
            return
        item.process = None
        if code == 0 and item.overtime is None:
            self._finish(item)
            return
        ending = process.ending_of(code, self._record(item), folder / "log.txt")
        if item.overtime is not None:
            ending = item.overtime.ending(ending)
        if not self._retry(item, code, ending):
            self._fail(item, ending)

    def _retry(self, item: Instance, code: int, ending: Ending) -> bool:
        """Schedule another attempt, if the task's retries allow it."""
        retry, now = item.task.template.retry, time.monotonic()
        start = now + retry.wait_before(item.attempts)
        is_late = self._limit_reached() or start > item.started + retry.max_time_s
        exit_code = code if code >= 0 else 128 - code  # of a signal, as a container reports it
        if is_late or item.attempts > retry.limit or not retry.covers(exit_code):
            return False
        item.ending, item.not_before = ending, start
        self._set(item, State.RETRYING)
        return True

    def _enforce_limit(self, item: Instance) -> None:
        """Stop a running task at its limit or that of the run."""
        assert item.process is not None
        limit_s = item.task.template.timeout_s
        if item.overtime is not None:
            item.overtime.poll()
        elif why := self._limit_reached():
            item.overtime = Overtime(item.process, item.task.template.grace_s, why)
        elif limit_s and time.monotonic() - item.attempt_started > limit_s:
            item.overtime = Overtime(item.process, item.task.template.grace_s, f"exceeded its time limit of {limit_s:g} s")

    def _limit_reached(self) -> str:
        """Return the message if the run has reached its time limit; otherwise an empty text."""
        is_over = self.limit_s is not None and time.monotonic() - self.started > self.limit_s
        return f"the run exceeded its time limit of {self.limit_s:g} s" if is_over else ""

    def _finish(self, item: Instance) -> None:
        try:
            item.outputs = process.read_outputs(item.task.template, self.folder.task(item.key))
        except DataError as error:
            self._fail(item, _unhandled(str(error)))
            return
        item.ending = SUCCESS
        self._set(item, State.CACHED if self._record(item).get("cache_hit") else State.DONE)

    def _record(self, item: Instance) -> dict[str, object]:
        if not item.record_name:
            return {}
        try:
            record: dict[str, object] = self.store.read_json(record_key(self.folder.run, item.record_name)) or {}
        except Mm1Error as error:  # temporarily unreachable: the record only explains the outcome
            log.warning("%s: cannot read its run record: %s", item.label, error)
            return {}
        return record

    def _fail(self, item: Instance, ending: Ending) -> None:
        item.ending = ending
        self._set(item, State.FAILED)

    def _set(self, item: Instance, state: State) -> None:
        item.state = state
        if state.over:
            item.ended = time.monotonic()
        self.has_changed = True

    # -- references ---------------------------------------------------------------------------------------------------

    def _lookup(self, reference: str, item: Instance | None, inputs: dict[str, str], status: str = "Running") -> str:
        if reference == "item" and item is not None and item.item is not None:
            return item.item
        if match := TASK_OUTPUT.match(reference):
            return self._task_output(match["task"], match["output"])
        prefix, _, name = reference.rpartition(".")
        if prefix == "workflow.parameters":
            return self.values[name]
        if prefix == "inputs.parameters":
            return inputs[name]
        return {"workflow.name": self.folder.run, "workflow.status": status}[reference]

    def _task_output(self, task: str, output: str) -> str:
        group = self.instances[task]
        if self.graph.tasks[task].loop is not None:
            return listed([item.outputs[output] for item in group])
        return group[0].outputs[output]

    # -- end and stop -------------------------------------------------------------------------------------------------

    def _run_exit_task(self, task: TaskNode, status: str) -> None:
        item = _single(task)
        self.instances[f"exit {task.name}"] = [item]
        self._start(item, status)
        while not item.state.over and not self.signals:
            if item.process is not None:
                self._poll(item)
            elif time.monotonic() >= item.not_before:
                self._start(item, status)
            self._display()
            time.sleep(POLL_S)
        if self.signals:
            self._stop()

    def _stop(self) -> None:
        running = [item for item in self._all() if item.process is not None]
        first = self.signals
        process.stop(running, at_once=lambda: self.signals > first)
        for item in self._all():
            if item.process is not None:
                item.process = None
                item.ending = Ending(outcome=Outcome.PREEMPTED, message="stopped")
                self._set(item, State.STOPPED)
            elif not item.state.over:
                self._set(item, State.OMITTED)

    @contextmanager
    def _no_orphans(self) -> Iterator[None]:
        """Stop all tasks if the runner fails."""
        try:
            yield
        except BaseException:
            process.stop(item for item in self._all() if item.process is not None)
            self.display.close()
            raise

    @contextmanager
    def _watch_signals(self) -> Iterator[None]:
        """Stop the run gracefully on the first signal, and immediately on the second."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signals += 1
            self.signal_code = INTERRUPTED if number == signal.SIGINT else int(Outcome.PREEMPTED)

        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _unhandled(message: str) -> Ending:
    return Ending(outcome=Outcome.UNHANDLED, message=message)


def _single(task: TaskNode) -> Instance:
    return Instance(task, key=task.name, label=task.name)


def _looped(task: TaskNode, items: Sequence[str]) -> list[Instance]:
    return [
        Instance(task, key=f"{task.name}-{number}", label=f"{task.name}({number}:{item})", item=item)
        for number, item in enumerate(items)
    ]
