"""What a rollout sees and does: the served model, its canary and their pods, by a cluster, a server, a log and a clock.

:class:`mm1_components.serving.rollout.Rollout` decides only by these. The cluster is
:mod:`mm1_components.serving.deployments` or :mod:`mm1_components.serving.inference_services`, the server
:mod:`mm1_components.serving.asking`, the log :mod:`mm1_components.serving.record`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from mm1.config.base import Config
from mm1.lineage.serving import Action


class Settings(Config):
    """How a canary is tried and judged."""

    replicas_of_canary: int = Field(default=1, ge=0)
    """Pods of the canary; 0 = promote without a canary."""
    canary_weight: int = Field(default=10, ge=0, le=100)
    """Percentage of the requests for the canary, where there is an HTTPRoute; without one, requests go to pods equally."""
    canary_seconds: float = Field(default=60.0, ge=0)
    """Duration of the analysis, s."""
    questions: int = Field(default=12, ge=1)
    """Number of image questions asked in that time."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Largest share of the canary's replies with a status of 500 or more."""
    ready_seconds: float = Field(default=900.0, gt=0)
    """Limit for a pod to become ready, s."""


@dataclass(frozen=True)
class Question:
    """A question about an image."""

    text: str
    image: str
    """The image as a ``data:`` URL; empty = none."""
    answers: tuple[str, ...] = ()
    """Right answers; empty = any answer is right."""
    max_tokens: int = 64


class Journal(Config):
    """What a rollout has begun to do to the served model, kept with it, so that its next attempt can continue."""

    by: str
    """The rollout."""
    model: str
    """Address of the model that it promotes."""
    before: str
    """Address of the model that was served before; empty = none."""
    phase: Literal["promoting", "undoing"]
    reason: str = ""
    """Why it is undone."""
    analysis: dict[str, Any] = Field(default={})
    """Figures of the canary."""


@dataclass(frozen=True)
class Served:
    """What is served."""

    model: str
    """Address of the model; empty = none yet."""
    replicas: int
    is_complete: bool
    """Whether all pods are of this model, and ready."""
    journal: Journal | None = None


@dataclass(frozen=True)
class Canary:
    """The canary of a rollout."""

    uid: str
    model: str
    """Address of its model."""
    by: str
    """The rollout that started it."""
    is_current: bool = True
    """Whether it is a copy of what is served now, but for the model."""
    is_ending: bool = False
    """Whether it is deleted and some of its pods still exist."""


@dataclass(frozen=True)
class Pod:
    """A pod that serves a model."""

    name: str
    url: str
    """Address of its server; empty while it has none."""
    is_ready: bool
    failure: str = ""
    """Why it cannot start, or how its server ended; empty while neither is the case."""
    pending: str = ""
    """What it waits for, if Kubernetes says so."""


@dataclass(frozen=True)
class Replies:
    """The replies of a server since it started."""

    total: int
    failed: int
    """Those with a status of 500 or more."""


class Cluster(Protocol):
    """The cluster that serves. Every method raises ConfigurationError or NetworkError."""

    def served(self) -> Served:
        """Return what is served."""

    def canary(self) -> Canary | None:
        """Return the canary; None if there is none."""

    def start_canary(self, model: str, by: str, replicas: int) -> None:
        """Create the canary, a copy of what is served with another model; nothing if there is one already."""

    def remove_canary(self, canary: Canary) -> None:
        """Delete this canary, but not another one of the same name."""

    def pods(self, model: str, *, of_canary: bool) -> list[Pod]:
        """Return the pods of a model that are not ending, of the canary or of the others."""

    def set_model(self, model: str, journal: Journal | None) -> None:
        """Set the served model and the journal at once; the pods are replaced one by one."""

    def set_journal(self, journal: Journal | None) -> None:
        """Set the journal alone."""

    def set_canary_weight(self, percent: int) -> None:
        """Set the canary's share of the requests, where there is a route with weights."""

    def tell(self, action: str, message: str) -> None:
        """Write an Event about what serves, if that is possible."""


class Asker(Protocol):
    """A client of a pod's server. Every method raises Mm1Error if there is no reply, or not the expected one."""

    def ask(self, pod: Pod, question: Question) -> str:
        """Return the answer to a question."""

    def replies(self, pod: Pod) -> Replies:
        """Return the counts of replies since the server started."""


class Log(Protocol):
    """The record of what is served. Every method raises NetworkError or DataError."""

    def current(self) -> str:
        """Return the address of the model that was promoted last; empty if there is none."""

    def add(self, action: Action, model: str, before: str, reason: str, analysis: Mapping[str, Any]) -> None:
        """Record a change; nothing if an earlier attempt recorded it."""


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Return the time in seconds since any moment."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> float:
        """Return the time in seconds since any moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
