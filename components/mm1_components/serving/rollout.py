r"""A rollout: try a model next to the served one, then serve it, or go back.

::

    canary of this model, started or adopted -> ready -> analysis -> served model = new -> all pods new, each asked -> recorded
                    \----------------------------\ failure: canary deleted, recorded as refused          \
                                                                failure: served model = before, recorded as rolled back

Everything that a later attempt has to know is in the cluster and in the log: the canary has the name of its rollout, and the
served model a journal that is written together with it. An attempt that was killed at any point is therefore continued by
running the same rollout again. One that is stopped, or ends with an error that no retry fixes, restores what was served first.

There is one canary at most, since it has a fixed name. A rollout whose canary or promotion was replaced by another rollout's
ends, and changes nothing any more: the last one wins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mm1.errors import Ending, Outcome
from mm1_components.serving.analysis import Analysis, failure_of, lateness, summary
from mm1_components.serving.state import Asker, Clock, Cluster, Journal, Log, Question, Served, Settings
from mm1_components.serving.trial import POLL_S, Superseded, Trial

log = logging.getLogger("mm1")

Direction = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Result:
    """How a rollout ended."""

    promoted: bool
    """Whether the model is served."""
    reason: str
    """One sentence."""


class Rollout:
    """A rollout of one model."""

    def __init__(
        self,
        cluster: Cluster,
        asker: Asker,
        record: Log,
        questions: Sequence[Question],
        *,
        model: str,
        by: str,
        settings: Settings,
        clock: Clock,
        direction: Direction = "promote",
    ) -> None:
        """Set what to roll out.

        Args:
            cluster: the cluster that serves.
            asker: client of its pods.
            record: the log of what is served.
            questions: what to ask; the first one is the model's own.
            model: address of the model's Deployment manifest.
            by: name of the rollout, the same in all its attempts.
            settings: how the canary is judged.
            clock: the time.
            direction: rollback: without a canary, and recorded as such.
        """
        self.cluster, self.record, self.settings, self.clock = cluster, record, settings, clock
        self.model, self.by, self.direction = model, by, direction
        self.analysis = Analysis(settings, questions, asker, clock)

    def run(self) -> Result:
        """Serve the model, or go back.

        Raises:
            ConfigurationError: the cluster refuses something.
            NetworkError: the cluster or the store is unreachable; the next attempt continues.
            Preempted: stopped; what was served first is served again.
        """
        try:
            return self._run()
        except Superseded as error:
            return self._refused(str(error))
        except BaseException as error:
            if Ending.of(error).outcome is not Outcome.NETWORK:
                self._restore()
            raise

    def _run(self) -> Result:
        served = self.cluster.served()
        journal = served.journal if served.journal and self._is_own(served.journal) else None
        if journal and journal.phase == "undoing":
            return self._undo(journal)
        if served.model == self.model:
            if self.record.current() == self.model:
                self._clean()
                if journal:
                    self.cluster.set_journal(None)
                return Result(True, "it is served already")
            log.info("the cluster serves this model, which is not recorded yet: an earlier attempt was killed")
            before = served.journal.before if served.journal and served.journal.model == self.model else self._recorded()
            return self._finish(journal or self._journal(before))
        if self.direction == "promote" and self.settings.replicas_of_canary:
            if failure := Trial(self.cluster, self.analysis, self.clock, self.model, self.by).run():
                return self._refused(f"canary: {failure}")
            log.info("canary: %s", summary(self.analysis.facts()))
        else:
            self._remove_others()
        journal = self._journal(self._verified(self.cluster.served()))  # read again: it may have changed in the meantime
        log.info("promoting: the pods are replaced one by one")
        self.cluster.set_model(self.model, journal)
        return self._finish(journal)

    def _is_own(self, journal: Journal) -> bool:
        return (journal.by, journal.model) == (self.by, self.model)

    def _journal(self, before: str) -> Journal:
        return Journal(by=self.by, model=self.model, before=before, phase="promoting", analysis=self.analysis.facts())

    def _verified(self, served: Served) -> str:
        """Return the model to go back to: what is served, unless that is a promotion which was killed and never verified."""
        journal = served.journal
        is_left = journal is not None and (journal.model, journal.phase) == (served.model, "promoting")
        if not is_left or self.direction == "rollback" or self.record.current() == served.model:
            return served.model
        return journal.before if journal and journal.before != self.model else served.model

    def _recorded(self) -> str:
        """Return the model of the record, if it is another one."""
        current = self.record.current()
        return current if current != self.model else ""

    # -- the canary -------------------------------------------------------------------------------------------

    def _remove_others(self) -> None:
        """Delete a canary, which ends its rollout."""
        if (canary := self.cluster.canary()) and not canary.is_ending:
            self.cluster.set_canary_weight(0)
            self.cluster.remove_canary(canary)

    # -- the served model -------------------------------------------------------------------------------------

    def _finish(self, journal: Journal) -> Result:
        """Verify the promotion and record it, or go back."""
        if failure := self._wait_served(self.model, ask=True):
            log.warning("going back: %s", failure)
            undoing = journal.model_copy(update={"phase": "undoing", "reason": failure})
            self.cluster.set_model(journal.before, undoing)
            return self._undo(undoing)
        self._clean()
        is_promotion = self.direction == "promote"
        reason = f"canary: {summary(journal.analysis)}" if journal.analysis else f"{self.direction} without a canary"
        self.record.add("promoted" if is_promotion else "rolled back", self.model, journal.before, reason, journal.analysis)
        self.cluster.set_journal(None)
        return Result(True, reason)

    def _undo(self, journal: Journal) -> Result:
        """Wait until the model before is served again, and record it."""
        reason = f"after the promotion: {journal.reason}"
        if journal.before and (failure := self._wait_served(journal.before, ask=False)):
            log.warning("the model before is not served by all pods again: %s", failure)
            reason += f"; the model before: {failure}"
        self._clean()
        if journal.before:
            self.record.add("rolled back", journal.before, self.model, reason, journal.analysis)
        else:
            self.record.add("refused", self.model, "", reason, journal.analysis)
        self.cluster.set_journal(None)
        return Result(False, reason)

    def _wait_served(self, model: str, *, ask: bool) -> str:
        """Wait until all pods are of a model and ready; return why that failed.

        Args:
            model: address of the model.
            ask: whether the pods are new: each is asked once, and none may have ended.
        """
        asked: set[str] = set()
        limit: float | None = None
        while True:
            served = self.cluster.served()
            if served.model != model:
                raise Superseded("another rollout has set the served model")
            limit_s = self.settings.ready_seconds * max(1, served.replicas)
            limit = self.clock.now() + limit_s if limit is None else limit
            pods = self.cluster.pods(model, of_canary=False)
            if ask and (failure := failure_of(pods)):  # pods that served before may have been restarted long ago
                return failure
            for pod in pods if ask else []:
                if pod.is_ready and pod.name not in asked and (failure := self.analysis.ask(pod, 0)):
                    return failure
                asked |= {pod.name} if pod.is_ready else set()
            if served.is_complete and (not ask or len(asked) >= served.replicas):
                return ""
            if self.clock.now() >= limit:
                return lateness(pods, limit_s)
            self.clock.sleep(POLL_S)

    # -- endings ----------------------------------------------------------------------------------------------

    def _refused(self, reason: str) -> Result:
        self._clean()
        self.record.add("refused", self.model, self.record.current(), reason, self.analysis.facts())
        return Result(False, reason)

    def _clean(self) -> None:
        """Delete the canary of this rollout and give all requests to the served model."""
        canary = self.cluster.canary()
        if canary and canary.by != self.by:
            return
        self.cluster.set_canary_weight(0)
        if canary and not canary.is_ending:
            self.cluster.remove_canary(canary)

    def _restore(self) -> None:
        """Serve again what was served first, unless that was to be rolled back; an error must not hide the cause of the end."""
        if self.direction == "promote":
            self._attempt(self._go_back)
        self._attempt(self._clean)

    def _go_back(self) -> None:
        served = self.cluster.served()
        journal = served.journal
        if journal is None or not self._is_own(journal) or journal.phase != "promoting" or served.model != self.model:
            return
        if self.record.current() != self.model:
            log.warning("going back, because the rollout ends before it is verified")
            self.cluster.set_model(journal.before, None)

    @staticmethod
    def _attempt(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - any error, because the original one is being raised
            log.error("something of the rollout may be left: %s; see mm1 rollout status", error)
