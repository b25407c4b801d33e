"""How something ended, in one shape for ranks, nodes, tasks and runs; and which of several endings explains the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mm1.errors.outcomes import BY_OUTCOME, EXPLAINS, Mm1Error, Outcome
from mm1.errors.recognize import text_of, typed

LONGEST_ESCAPE = 12
"""Bytes of one character in JSON at most: two surrogates."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a rank, a node, a task or a run ended."""

    outcome: Outcome
    message: str = ""
    where: str = ""
    """For example ``rank 3``, ``node 1``, or a task's name."""
    host: str = ""
    """The machine that it ran on, where it is known."""

    @classmethod
    def of(cls, error: BaseException, where: str = "") -> Ending:
        """The ending that an exception stands for; one without an outcome class is :attr:`Outcome.UNHANDLED`."""
        known = typed(error)
        if known is None:
            return cls(outcome=Outcome.UNHANDLED, message=f"{type(error).__name__}: {text_of(error)}", where=where)
        return cls(outcome=known.outcome, message=str(known), where=where)

    @property
    def error(self) -> Mm1Error:
        """The error to raise for it, with its place in the message."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        return BY_OUTCOME.get(self.outcome, Mm1Error)(text)

    def to_json(self, max_bytes: int | None = None) -> str:
        """Text for the process that waits for this one; a message that makes it longer than this is cut."""
        message = self.message
        while True:
            text = json.dumps({"outcome": int(self.outcome), "message": message, "where": self.where})
            if max_bytes is None or (excess := len(text) - max_bytes) <= 0 or not message:
                return text
            message = message[: -max(1, excess // LONGEST_ESCAPE)]

    @classmethod
    def from_json(cls, text: str | bytes) -> Ending | None:
        """What :meth:`to_json` wrote; None for anything else."""
        try:
            record = json.loads(text)
            outcome = Outcome.from_exit_code(int(record["outcome"]))
            return cls(outcome=outcome, message=str(record["message"]), where=str(record.get("where", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def cause(endings: Iterable[Ending], *, stops_others: bool = False) -> Ending | None:
    """The ending that explains the others; the first one of equals, None when there are none.

    Args:
        endings: of processes that worked together.
        stops_others: whether the launcher stops all others when one fails, as torchrun does on one machine: then PREEMPTED is
            a consequence of anything else. Among nodes nobody does that: there a preempted node explains lost connections.
    """
    order = [outcome for outcome in EXPLAINS if not stops_others or outcome is not Outcome.PREEMPTED]
    ranks = {outcome: number for number, outcome in enumerate(order)}
    return min(endings, key=lambda ending: ranks.get(ending.outcome, len(order)), default=None)
