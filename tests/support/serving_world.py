"""A simulated cluster that serves models, its clock and its log: pods start, become ready and are replaced as time passes.

Every call is a point at which a test can stop the rollout: killed there, or with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mm1.errors import ConfigurationError, NetworkError
from mm1_components.serving.state import Canary, Journal, Pod, Question, Replies, Served

READY_S = 10.0


class Killed(BaseException):
    """The rollout was killed: no code of its own runs any more."""


@dataclass(frozen=True)
class Model:
    """How the pods of a model behave."""

    answer: str = "red"
    answer_when_served: str = "red"
    """Of the pods that are not the canary's."""
    crashes: bool = False
    crashes_when_served: bool = False
    crashes_after_s: float | None = None
    never_ready: bool = False
    was_restarted: bool = False
    """Once, long ago."""
    replies: Replies = field(default_factory=lambda: Replies(100, 0))
    unreachable: bool = False


@dataclass
class _Pod:
    name: str
    model: str
    born: float
    of_canary: bool


class World:
    """A cluster, an asker, a clock and a log in one."""

    def __init__(self, models: Mapping[str, Model], served: str = "", replicas: int = 2) -> None:
        self.models, self.model, self.replicas = models, served, replicas
        self.time, self.made, self.calls = 0.0, 0, 0
        self.journal: Journal | None = None
        self.the_canary: Canary | None = None
        self.weight = 0
        self.running = [self._pod(served, False, -100.0) for _ in range(replicas)]
        self.changes: list[tuple[str, str, str, str]] = []
        """Action, model, model before, reason."""
        self.analyses: list[Mapping[str, Any]] = []
        self.promoted = served
        self.asked: list[tuple[str, str]] = []
        """Pod and question."""
        self.least_ready = replicas if served else 0
        self.at_call: dict[int, BaseException] = {}
        """Number of a call, from 1 -> what is raised there, before it has an effect."""
        self.on_call: Callable[[int], None] = lambda number: None

    # -- what happens by itself -------------------------------------------------------------------------------

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self._point()
        for _ in range(max(1, round(seconds))):
            self.time += min(seconds, 1.0)
            self._reconcile()

    def _pod(self, model: str, of_canary: bool, born: float | None = None) -> _Pod:
        self.made += 1
        return _Pod(f"pod-{self.made}", model, self.time if born is None else born, of_canary)

    def _reconcile(self) -> None:
        """Replace the pods one by one, a new one first, as a Deployment with maxUnavailable 0 and maxSurge 1."""
        served = [pod for pod in self.running if not pod.of_canary]
        old = sorted((pod for pod in served if pod.model != self.model), key=self._is_ready)
        num_ready = sum(map(self._is_ready, served))
        if old and (not self._is_ready(old[0]) or num_ready > self.replicas):
            self.running.remove(old[0])
        elif len(served) - len(old) < self.replicas and len(served) <= self.replicas:
            self.running.append(self._pod(self.model, False))
        ready = [pod for pod in self.running if not pod.of_canary and self._is_ready(pod)]
        if self.least_ready:
            self.least_ready = min(self.least_ready, len(ready))

    def _failure(self, pod: _Pod) -> str:
        model = self.models.get(pod.model, Model(crashes=True))
        crashes = model.crashes or (model.crashes_when_served and not pod.of_canary)
        late = model.crashes_after_s is not None and self.time >= pod.born + READY_S + model.crashes_after_s
        return "ended with exit code 81 (data)" if (crashes and self.time > pod.born) or late else ""

    def _is_ready(self, pod: _Pod) -> bool:
        model = self.models.get(pod.model, Model(crashes=True))
        return not self._failure(pod) and not model.never_ready and self.time >= pod.born + READY_S

    def _point(self, *, of_asker: bool = False) -> None:
        self.calls += 1
        self.on_call(self.calls)
        error = self.at_call.get(self.calls)
        if error and not (of_asker and isinstance(error, NetworkError | ConfigurationError)):  # these are answers
            raise error

    # -- the cluster ------------------------------------------------------------------------------------------

    def served(self) -> Served:
        self._point()
        own = [pod for pod in self.running if not pod.of_canary]
        complete = len(own) == self.replicas and all(pod.model == self.model and self._is_ready(pod) for pod in own)
        return Served(self.model, self.replicas, complete, self.journal)

    def canary(self) -> Canary | None:
        self._point()
        return self.the_canary

    def start_canary(self, model: str, by: str, replicas: int) -> None:
        self._point()
        if self.the_canary is None:
            self.the_canary = Canary(uid=f"uid-{self.made}", model=model, by=by)
            self.running += [self._pod(model, True) for _ in range(replicas)]

    def remove_canary(self, canary: Canary) -> None:
        self._point()
        if self.the_canary and self.the_canary.uid == canary.uid:
            self.the_canary = None
            self.running = [pod for pod in self.running if not pod.of_canary]

    def pods(self, model: str, *, of_canary: bool) -> list[Pod]:
        self._point()
        chosen = [pod for pod in self.running if pod.of_canary == of_canary and pod.model == model]
        return [Pod(pod.name, f"http://{pod.name}", self._is_ready(pod), self._reported(pod)) for pod in chosen]

    def _reported(self, pod: _Pod) -> str:
        restarted = pod.model in self.models and self.models[pod.model].was_restarted
        return self._failure(pod) or ("the server was restarted" if restarted else "")

    def set_model(self, model: str, journal: Journal | None) -> None:
        self._point()
        self.model, self.journal = model, journal
        self._reconcile()

    def set_journal(self, journal: Journal | None) -> None:
        self._point()
        self.journal = journal

    def set_canary_weight(self, percent: int) -> None:
        self._point()
        self.weight = percent

    # -- the asker --------------------------------------------------------------------------------------------

    def ask(self, pod: Pod, question: Question) -> str:
        self._point(of_asker=True)
        [inner] = [each for each in self.running if each.name == pod.name]
        model = self.models[inner.model]
        if model.unreachable:
            raise NetworkError("Connection refused")
        self.asked.append((pod.name, question.text))
        return model.answer if inner.of_canary else model.answer_when_served

    def replies(self, pod: Pod) -> Replies:
        self._point(of_asker=True)
        [inner] = [each for each in self.running if each.name == pod.name]
        return self.models[inner.model].replies

    # -- the log ----------------------------------------------------------------------------------------------

    def current(self) -> str:
        self._point()
        return self.promoted

    def add(self, action: str, model: str, before: str, reason: str, analysis: Mapping[str, Any]) -> None:
        self._point()
        if self.changes[-1:] != [(action, model, before, reason)]:
            self.changes.append((action, model, before, reason))
            self.analyses.append(analysis)
        if action != "refused":
            self.promoted = model

    def outdate_canary(self) -> None:
        """What is served got another template since the canary was copied from it."""
        assert self.the_canary
        self.the_canary = replace(self.the_canary, is_current=False)
