"""Exceptions and their outcome classes.

Every failure that a person or an engine can act on is an :class:`Mm1Error` with one of ten outcome classes. The class sets
the exit code of the process, which decides who acts: the exit code passes from rank to pod, JobSet, supervisor, the engine's
retry rule, and finally the command line. 64 and 65 are reserved by Argo, 1 is an unhandled exception, and 2 an argument
error; none of them is used here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Outcome(IntEnum):
    """Outcome of a step; the value is the exit code of its process."""

    DONE = 0
    UNHANDLED = 1
    CONFIGURATION = 80
    DATA = 81
    DIVERGED = 82
    OUT_OF_MEMORY = 83
    NETWORK = 84
    HARDWARE = 85
    CHECKPOINT = 86
    PREEMPTED = 87
    BUDGET = 88

    @property
    def retried(self) -> bool:
        """Whether running the same step again can succeed without any change."""
        return self in RETRIED

    @property
    def label(self) -> str:
        """Human-readable name, for example ``out of memory``."""
        return self.name.lower().replace("_", " ")

    @classmethod
    def from_exit_code(cls, code: int) -> Outcome:
        """Convert an exit code to an outcome; unknown codes become :attr:`UNHANDLED`."""
        return cls(code) if code in cls._value2member_map_ else cls.UNHANDLED


RETRIED = frozenset({Outcome.NETWORK, Outcome.HARDWARE, Outcome.CHECKPOINT, Outcome.PREEMPTED})
SAVED = frozenset({Outcome.PREEMPTED, Outcome.BUDGET})
"""Outcomes of work that stopped with its state saved: it continues when it is started again."""


class Mm1Error(Exception):
    """Base of all exceptions with an outcome class. The message names the field or file and the remedy."""

    outcome: ClassVar[Outcome] = Outcome.UNHANDLED


class ConfigurationError(Mm1Error):
    """Invalid parameter, recipe, path or combination; not retried (exit code 80)."""

    outcome = Outcome.CONFIGURATION


class DataError(Mm1Error):
    """Data are missing, or corrupt beyond the limit; the message names the file (exit code 81)."""

    outcome = Outcome.DATA


class DivergedError(Mm1Error):
    """The loss is not finite or has diverged (exit code 82)."""

    outcome = Outcome.DIVERGED


class OutOfMemory(Mm1Error):
    """Not enough memory for the micro-batch, which can be halved (exit code 83)."""

    outcome = Outcome.OUT_OF_MEMORY


class NetworkError(Mm1Error):
    """Possibly transient failure of the network, rendezvous, store or disk (exit code 84)."""

    outcome = Outcome.NETWORK


class HardwareError(Mm1Error):
    """A device reported a fault; run on another one (exit code 85)."""

    outcome = Outcome.HARDWARE


class CheckpointError(Mm1Error):
    """A checkpoint does not match its digests; the previous one is used (exit code 86)."""

    outcome = Outcome.CHECKPOINT


class Preempted(Mm1Error):
    """The process was asked to stop and saved its state; start it again to continue (exit code 87)."""

    outcome = Outcome.PREEMPTED


class BudgetUsedUp(Mm1Error):
    """The device hours of the run are used up and its state is saved; not retried, a new budget continues (exit code 88)."""

    outcome = Outcome.BUDGET


BY_OUTCOME: dict[Outcome, type[Mm1Error]] = {
    cls.outcome: cls
    for cls in (
        ConfigurationError,
        DataError,
        DivergedError,
        OutOfMemory,
        NetworkError,
        HardwareError,
        CheckpointError,
        Preempted,
        BudgetUsedUp,
    )
}


EXPLAINS = (
    Outcome.CONFIGURATION,
    Outcome.DATA,
    Outcome.DIVERGED,
    Outcome.OUT_OF_MEMORY,
    Outcome.CHECKPOINT,
    Outcome.HARDWARE,
    Outcome.UNHANDLED,
    Outcome.BUDGET,
    Outcome.PREEMPTED,
    Outcome.NETWORK,
)
"""Outcomes of processes that worked together, the likeliest root cause first.

A rank that loses a peer ends with NETWORK, whatever happened to the peer, so NETWORK comes last. An unhandled exception
comes before it. In the opposite order, a bug on one rank would be reported and retried as a lost connection of all others.
This works because :func:`~mm1.errors.typed` recognises the errors that ranks raise when a peer is gone.
"""
