"""One record of how a rank, node, task or run ended, and the choice of the root cause among several."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mm1.errors.outcomes import BY_OUTCOME, EXPLAINS, Mm1Error, Outcome
from mm1.errors.recognize import text_of, typed
from mm1.errors.redact import redact

MAX_ESCAPE_LENGTH = 12
"""Maximum length in bytes of one character in JSON: two escaped surrogates."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a rank, a node, a task or a run ended."""

    outcome: Outcome
    message: str = ""
    where: str = ""
    """For example ``rank 3``, ``node 1``, or a task's name."""
    host: str = ""
    """The machine it ran on, if known."""

    @classmethod
    def of(cls, error: BaseException, where: str = "") -> Ending:
        """Make an ending from an exception; exceptions without an outcome class become :attr:`Outcome.UNHANDLED`.

        Its message has no credentials (:func:`mm1.errors.redact.redact`).
        """
        typed_error = typed(error)
        if typed_error is None:
            return cls(outcome=Outcome.UNHANDLED, message=redact(f"{type(error).__name__}: {text_of(error)}"), where=where)
        return cls(outcome=typed_error.outcome, message=redact(str(typed_error)), where=where)

    @property
    def error(self) -> Mm1Error:
        """The exception to raise for this ending; the message names the rank, node or task."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        return BY_OUTCOME.get(self.outcome, Mm1Error)(text)

    def to_json(self, max_bytes: int | None = None) -> str:
        """Serialize for the parent process; the message is truncated to keep the text within ``max_bytes``."""
        message = self.message
        while True:
            text = json.dumps({"outcome": int(self.outcome), "message": message, "where": self.where})
            if max_bytes is None or (excess := len(text) - max_bytes) <= 0 or not message:
                return text
            message = message[: -max(1, excess // MAX_ESCAPE_LENGTH)]

    @classmethod
    def from_json(cls, text: str | bytes) -> Ending | None:
        """Parse the output of :meth:`to_json`; None for anything else."""
        try:
            record = json.loads(text)
            outcome = Outcome.from_exit_code(int(record["outcome"]))
            return cls(outcome=outcome, message=str(record["message"]), where=str(record.get("where", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def cause(endings: Iterable[Ending], *, stops_others: bool = False) -> Ending | None:
    """Find the ending that explains the others: the first of several equal ones, None if there are none.

    Args:
        endings: endings of processes that worked together.
        stops_others: whether the launcher stops all processes when one fails, like torchrun on one machine. PREEMPTED is then
            a consequence of any other failure. Nodes do not stop each other, so a preempted node explains lost connections.
    """
    order = [outcome for outcome in EXPLAINS if not stops_others or outcome is not Outcome.PREEMPTED]
    ranks = {outcome: number for number, outcome in enumerate(order)}
    return min(endings, key=lambda ending: ranks.get(ending.outcome, len(order)), default=None)
