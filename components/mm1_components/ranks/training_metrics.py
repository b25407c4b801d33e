r"""Values of the metrics of a training, from the lines of its ranks and the decisions of whoever follows them.

::

    progress line of rank 0 --take-------> samples, for the thread of the server (:mod:`.metrics_server`)
    waiting, restarted, relaunched, ended --/

What cannot be read is counted, and logged once: nothing here may end or delay a training.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mm1.errors import Outcome, Preempted
from mm1.monitoring.metric import Metric
from mm1.monitoring.training import ENDED, PAUSED, RUNNING, STARTING, STATES, STUCK, TRAINING
from mm1.train.config import RunConfig
from mm1_components.ranks.stuck import StuckWatch

log = logging.getLogger("mm1")

MAX_VALUES = 64
"""Values of a label of a metric, for example sources; further ones are left out: each is a series that Prometheus keeps."""
MAX_LENGTH = 100
"""Characters of a label's value."""
NEVER = {outcome.label: 0 for outcome in Outcome if outcome is not Outcome.DONE}
"""Counts of all reasons: a counter that begins with 1 shows no increase."""


@dataclass(frozen=True)
class Sample:
    """A value of a metric."""

    labels: tuple[str, ...]
    """Values of the metric's own labels."""
    value: float


class TrainingMetrics:
    """The state of one training, and its last progress line.

    Args:
        run: name of the run.
        task: name of the task in it.
        config: of the training.
        clock: seconds, monotonic.
    """

    def __init__(self, run: str, task: str, config: RunConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.labels = tuple(text[:MAX_LENGTH] for text in (run, task, config.stage, config.recipe))
        self.clock = clock
        self.outcome: Outcome | None = None
        """How the training has ended; None while it runs."""
        self._watch = StuckWatch(config, clock=clock)
        self._lock = threading.Lock()
        self._waiting = ""
        self._samples: dict[str, list[Sample]] = {}
        self._read_at = 0.0
        self._restarts, self._relaunches = Counter(NEVER), Counter(NEVER)
        self._num_unread = 0

    # -- what happens ---------------------------------------------------------------------------------------------

    def take(self, line: str) -> None:
        """Read a line of rank 0's output; other lines than the trainer's own change nothing."""
        if not line.startswith('{"mm1": '):
            return
        with self._lock:
            try:
                if line.startswith('{"mm1": "progress"'):
                    self._samples = _samples_of(json.loads(line), self._count_unread)
                    self._read_at = self.clock()
                self._watch.take(line)
            except Preempted:  # raised by a signal handler
                raise
            except Exception as error:  # noqa: BLE001 - whatever the line holds
                self._count_unread(f"{type(error).__name__}: {error}")

    def waiting(self, state: str = "") -> None:
        """Set what the ranks wait for, QUEUED or PENDING; empty if for nothing."""
        self._waiting = state

    def restarted(self, reason: Outcome) -> None:
        """Count a restart by the JobSet; the ranks start again."""
        self._again(self._restarts, reason)

    def relaunched(self, reason: Outcome) -> None:
        """Count a new launch; the ranks start again."""
        self._again(self._relaunches, reason)

    def _again(self, counter: Counter[str], reason: Outcome) -> None:
        with self._lock:
            counter[reason.label] += 1
            self._watch.reset()
            self._samples = {}

    def ended(self, outcome: Outcome) -> None:
        """Record how the training has ended."""
        self.outcome = outcome

    # -- what is scraped ------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of :data:`~mm1.monitoring.training.STATES`."""
        if self.outcome is not None:
            return ENDED
        if self._waiting:
            return self._waiting
        if self._watch.waited_s is None:
            return STARTING
        if self._watch.reason():
            return STUCK
        return PAUSED if self._watch.doing else RUNNING

    def samples(self) -> dict[str, list[Sample]]:
        """Return the current values by name of the metric; may be called in another thread."""
        with self._lock:
            grown_s = self.clock() - self._read_at
            line = {
                name: [Sample(sample.labels, sample.value + grown_s) for sample in samples] if TRAINING[name].grows else samples
                for name, samples in self._samples.items()
            }
            return line | self._own()

    def _own(self) -> dict[str, list[Sample]]:
        """Return the values that are of no line."""
        state, waited_s = self.state, self._watch.waited_s
        age = [] if waited_s is None or state == ENDED else [Sample((), waited_s)]
        outcome = [] if self.outcome is None else [Sample((self.outcome.label,), 1.0)]
        return {
            "mm1_training_state": [Sample((name,), float(name == state)) for name in STATES],
            "mm1_training_step_age_seconds": age,
            "mm1_training_restarts": _counts(self._restarts),
            "mm1_training_relaunches": _counts(self._relaunches),
            "mm1_training_outcome": outcome,
            "mm1_training_unread_lines": [Sample((), float(self._num_unread))],
        }

    def _count_unread(self, why: str) -> None:
        if not self._num_unread:
            log.warning("a progress line is not, or only partly, in the metrics (logged once): %s", why)
        self._num_unread += 1


def _counts(counter: Counter[str]) -> list[Sample]:
    return [Sample((reason,), float(number)) for reason, number in sorted(counter.items())]


def _samples_of(line: dict[str, Any], complain: Callable[[str], None]) -> dict[str, list[Sample]]:
    """Return the values of a progress line by metric; what is missing or no number has none."""
    samples: dict[str, list[Sample]] = {}
    for metric in TRAINING.values():
        if metric.field and (value := _at(line, metric.field)) is not None:
            try:
                samples[metric.name] = list(_samples(metric, value))
            except (TypeError, OverflowError) as error:
                complain(f"{metric.field}: {error}")
    return samples


def _samples(metric: Metric, value: Any) -> Iterator[Sample]:
    if not metric.labels:
        yield Sample((), _number(value))
        return
    if not isinstance(value, dict):
        raise TypeError(f"expected a map, got {value!r:.50}")
    for name, item in list(value.items())[:MAX_VALUES]:
        yield Sample((str(name)[:MAX_LENGTH],), _number(item))


def _at(line: dict[str, Any], path: str) -> Any:
    """Return the value at a path such as ``checkpoint.step``; None if there is none."""
    value: Any = line
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float:
    """Return a number, which may be NaN or infinite.

    Raises:
        TypeError: it is something else.
        OverflowError: it is an integer beyond the range of a float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r:.50}")
    return float(value)
