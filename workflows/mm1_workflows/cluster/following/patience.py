"""Questions to a cluster that is not always there: an API server, a controller or Argo Server that is restarted.

What may pass is asked again within a time budget that starts anew with each answer. A server that has answered before is also
forgiven a few seconds of "not found" and "not permitted": one that starts says both before it has read its own state.
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
    """Asks again."""

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
            doubt_s: the same for answers that say that something is missing or forbidden.
            tell: gets one line when an answer stays away, and one when there is an answer again.
            clock: seconds that only grow.
            pause: waits so many seconds.
        """
        self.budget_s, self.doubt_s = budget_s, doubt_s
        self.tell, self.clock, self.pause = tell, clock, pause
        self.answered = False

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer, after as many tries as the budget allows.

        The first question of all is asked once: what never answered is not waited for.

        Raises:
            NetworkError: no answer within the budget.
            ConfigurationError: what was asked for is missing or forbidden, and stays so.
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
                    self.tell("there is an answer again")
                self.answered = True
                return answer

    def _limit(self, error: Mm1Error) -> float:
        if not self.answered:
            return 0.0
        return self.budget_s if isinstance(error, NetworkError) else self.doubt_s

    def _lost(self, error: Mm1Error) -> None:
        if self.answered:
            self.tell(f"{error} (asking again for up to {self._limit(error):.0f} s; the run itself goes on)")
