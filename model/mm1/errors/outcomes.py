"""Errors and the outcome classes they stand for.

Every failure that a person or an engine can act on is an :class:`Mm1Error` of one of nine outcome classes. The class decides
the exit code of the process, and with it who acts: a rank tells its pod, the pod its JobSet, the supervisor, the engine's
retry rule, and in the end the exit code of the command line. 64 and 65 belong to Argo, 1 is an unhandled exception, 2 is
argument parsing; none of them is used here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Outcome(IntEnum):
    """How a step ended; the value is the exit code of its process."""

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

    @property
    def retried(self) -> bool:
        """Whether running the same step again can help without anybody changing anything."""
        return self in RETRIED

    @property
    def label(self) -> str:
        """The class as people read it, for example ``out of memory``."""
        return self.name.lower().replace("_", " ")

    @classmethod
    def from_exit_code(cls, code: int) -> Outcome:
        """The outcome that an exit code stands for; codes that are not ours are :attr:`UNHANDLED`."""
        return cls(code) if code in cls._value2member_map_ else cls.UNHANDLED


RETRIED = frozenset({Outcome.NETWORK, Outcome.HARDWARE, Outcome.CHECKPOINT, Outcome.PREEMPTED})


class Mm1Error(Exception):
    """Base of all errors with an outcome class. The message names the field or file and the remedy."""

    outcome: ClassVar[Outcome] = Outcome.UNHANDLED


class ConfigurationError(Mm1Error):
    """A parameter, recipe, path or combination is wrong; nobody retries it (exit 80)."""

    outcome = Outcome.CONFIGURATION


class DataError(Mm1Error):
    """Data are missing, or corrupt beyond the limit; the message names the file (exit 81)."""

    outcome = Outcome.DATA


class DivergedError(Mm1Error):
    """The loss is not finite or has left its course (exit 82)."""

    outcome = Outcome.DIVERGED


class OutOfMemory(Mm1Error):
    """Not enough memory for the micro-batch; it can be halved (exit 83)."""

    outcome = Outcome.OUT_OF_MEMORY


class NetworkError(Mm1Error):
    """Network, rendezvous, store or disk failed in a way that may pass (exit 84)."""

    outcome = Outcome.NETWORK


class HardwareError(Mm1Error):
    """A device reported a fault; run elsewhere (exit 85)."""

    outcome = Outcome.HARDWARE


class CheckpointError(Mm1Error):
    """A checkpoint does not match its digests; the previous one is used (exit 86)."""

    outcome = Outcome.CHECKPOINT


class Preempted(Mm1Error):
    """The process was asked to stop and saved what it had; start it again to continue (exit 87)."""

    outcome = Outcome.PREEMPTED


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
    Outcome.PREEMPTED,
    Outcome.NETWORK,
)
"""Of processes that worked together, the failure that explains the others first.

Who loses a peer ends with NETWORK, whatever ended the peer, so that it comes last. An unhandled exception comes before it: with
the opposite order a bug on one rank would be told, and tried again, as a lost connection of all others. This holds because
:func:`~mm1.errors.typed` knows the errors by which ranks notice that a peer is gone.
"""
