"""Retries of requests to a cluster whose API server, controller or Argo Server may be restarting.

Transient errors are retried within a time budget, which is reset by each answer. For a server that has answered before, "not
found" and "forbidden" are also retried for a few seconds, because a server may answer so before it has loaded its state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mm1.errors import Mm1Error, NetworkError
from mm1_workflows.cluster.transport.base import NotFound, Refused

BUDGET_S = 300.0
DOUBT_S = 15.0
LONGEST_PAUSE_S = 10.0
Answer = TypeVar("Answer")


class Patience:
    """Retries requests within a time budget."""

    def __init__(
        self,
        budget_s: float = BUDGET_S,
        *,
        doubt_s: float = DOUBT_S,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Set the limits.

        Args:
            budget_s: seconds without an answer after which it gives up.
            doubt_s: the same for answers that an object is missing or forbidden.
            tell: callback for a message when answers stop, and when they resume.
            clock: monotonic clock, s.
            pause: sleeps for the given seconds.
        """
        self.budget_s, self.doubt_s = budget_s, doubt_s
        self.tell, self.clock, self.pause = tell, clock, pause
        self.answered = False

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Send a request and return its answer, with retries within the budget.

        The first request of all is not retried: a server that has never answered is not waited for.

        Raises:
            NetworkError: no answer within the budget.
            ConfigurationError: the object is permanently missing or forbidden.
        """
        first: float | None = None
        wait_s = 1.0
        while True:
            try:
                answer = question()
            except (NetworkError, NotFound, Refused) as error:
                now = self.clock()
                if first is None:
                    first = now
                    self._lost(error)
                if now - first >= self._limit(error):
                    raise
                self.pause(wait_s)
                wait_s = min(2 * wait_s, LONGEST_PAUSE_S)
            else:
                if first is not None:
                    self.tell("the cluster is reachable again")
                self.answered = True
                return answer

    def _limit(self, error: Mm1Error) -> float:
        if not self.answered:
            return 0.0
        return self.budget_s if isinstance(error, NetworkError) else self.doubt_s

    def _lost(self, error: Mm1Error) -> None:
        if self.answered:
            self.tell(f"{error} (retrying for up to {self._limit(error):.0f} s; the run continues)")
