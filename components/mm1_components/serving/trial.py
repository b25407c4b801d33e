"""The trial of a canary: start or adopt it, wait until it is ready, give it its share of the requests, and analyse it."""

from __future__ import annotations

import logging

from mm1.errors import NetworkError
from mm1_components.serving.analysis import Analysis, failure_of, lateness
from mm1_components.serving.state import Canary, Clock, Cluster, Pod

log = logging.getLogger("mm1")

POLL_S = 2.0
"""Between two looks at the cluster."""


class Superseded(Exception):
    """Another rollout has replaced the canary or the model of this one."""


class Trial:
    """The trial of one model as a canary."""

    def __init__(self, cluster: Cluster, analysis: Analysis, clock: Clock, model: str, by: str) -> None:
        """Set what to try.

        Args:
            cluster: the cluster that serves.
            analysis: what is asked and counted.
            clock: the time.
            model: address of the model.
            by: name of the rollout.
        """
        self.cluster, self.analysis, self.settings, self.clock = cluster, analysis, analysis.settings, clock
        self.model, self.by = model, by

    def run(self) -> str:
        """Start or adopt the canary and analyse it; return why it failed, empty if it passed.

        Raises:
            Superseded: another rollout has replaced or deleted it.
        """
        canary = self._started()
        started = self.clock.now()
        if failure := self._wait_ready(canary):
            return failure
        self.analysis.ready_s = self.clock.now() - started
        log.info("canary: ready after %.0f s; analysing it for %.0f s", self.analysis.ready_s, self.settings.canary_seconds)
        self.cluster.set_canary_weight(self.settings.canary_weight)
        return self._analyse(canary)

    def _started(self) -> Canary:
        """Return the canary of this rollout; one that is left of another rollout, or of an older template, is deleted.

        Raises:
            NetworkError: it is still being deleted after the limit for a pod to become ready.
        """
        limit = self.clock.now() + self.settings.ready_seconds
        while (canary := self.cluster.canary()) is None or not self._fits(canary):
            if canary is None:
                self.cluster.start_canary(self.model, self.by, self.settings.replicas_of_canary)
                log.info("canary: started")
                continue
            if not canary.is_ending:
                log.info("canary: deleting the one that %s left", canary.by or "somebody")
                self.cluster.remove_canary(canary)
            elif self.clock.now() >= limit:
                raise NetworkError(f"the canary of {canary.by} is still being deleted after {self.settings.ready_seconds:g} s")
            self.clock.sleep(POLL_S)
        return canary

    def _fits(self, canary: Canary) -> bool:
        is_own = (canary.by, canary.model) == (self.by, self.model)
        return is_own and canary.is_current and not canary.is_ending

    def _wait_ready(self, canary: Canary) -> str:
        limit = self.clock.now() + self.settings.ready_seconds
        while True:
            pods = self._canary_pods(canary)
            if failure := failure_of(pods):
                return failure
            if sum(pod.is_ready for pod in pods) >= self.settings.replicas_of_canary:
                return ""
            if self.clock.now() >= limit:
                return lateness(pods, self.settings.ready_seconds)
            self.clock.sleep(POLL_S)

    def _analyse(self, canary: Canary) -> str:
        started, number = self.clock.now(), 0
        pause_s = self.settings.canary_seconds / self.settings.questions
        while True:
            pods = self._canary_pods(canary)
            if failure := failure_of(pods):
                return failure
            ready = [pod for pod in pods if pod.is_ready]
            if not ready:
                return "no pod is ready any more"
            elapsed = self.clock.now() - started
            is_due = number < self.settings.questions and elapsed >= number * pause_s
            for pod in ready:
                if is_due and (failure := self.analysis.ask(pod, number)):
                    return failure
                if failure := self.analysis.check_replies(pod):
                    return failure
            number += is_due
            if number == self.settings.questions and elapsed >= self.settings.canary_seconds:
                return ""
            self.clock.sleep(min(POLL_S, pause_s))

    def _canary_pods(self, canary: Canary) -> list[Pod]:
        current = self.cluster.canary()
        if current and current.uid != canary.uid:
            raise Superseded(f"its canary was replaced by {current.by}")
        if current is None or current.is_ending:
            raise Superseded("its canary was deleted by somebody else")
        return self.cluster.pods(self.model, of_canary=True)
