"""Errors and the outcome classes they stand for.

Every failure that a person or an engine can act on is an :class:`Mm1Error` of one of nine outcome classes. The class decides
the exit code of the process, and with it who acts: a rank tells its pod, the pod its JobSet, the supervisor, the engine's
retry rule, and in the end the exit code of the command line. 64 and 65 belong to Argo, 1 is an unhandled exception, 2 is
argument parsing; none of them is used here.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass
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
"""Of processes that worked together, the failure that explains the others first: who loses a peer ends with NETWORK."""


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
            return cls(outcome=Outcome.UNHANDLED, message=f"{type(error).__name__}: {error}", where=where)
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


OUT_OF_MEMORY_HINT = "out of memory: set a smaller train.micro_batch or batch_size, or give the step more memory"
OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "ALLOC_FAILED",
)
"""Texts of errors in C++ and CUDA libraries that are not `MemoryError`."""
OUT_OF_MEMORY_LINES = ("could not create a primitive",)
"""Whole first lines of such errors: oneDNN says so when memory runs out, and with more words when it lacks an operation."""
DEVICE_SIGNS = ("uncorrectable ECC", "ECC error", "hardware failure", "fell off the bus", "busy or unavailable")
"""Texts of CUDA errors that another device does not have."""
PEER_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "gloo", "Timed out waiting")
"""Texts of errors of collectives when another rank is gone."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
MISSING = (errno.ENOENT, errno.ENOTDIR)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NEVER_PASSES = {
    errno.EISDIR: "is a directory, expected a file",
    errno.EEXIST: "exists already",
    errno.ENOTEMPTY: "the directory is not empty",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.E2BIG: "the argument list is too long: pass a manifest or a file instead of a list",
    errno.ELOOP: "too many levels of symbolic links",
    errno.EINVAL: "invalid argument",
    errno.ENOEXEC: "cannot be executed: exec format error",
    errno.EXDEV: "cannot be moved to another file system",
    errno.EMLINK: "too many links",
    errno.EFBIG: "the file is too large for the file system",
    errno.ENOTSUP: "not supported by the file system",
    errno.ENOSYS: "not supported by the system",
    errno.ENODEV: "no such device",
    errno.ENXIO: "no such device or address",
    errno.ESPIPE: "is a pipe, expected a file",
    errno.EADDRINUSE: "the address is in use: choose another port",
    errno.EADDRNOTAVAIL: "the address is not one of this machine",
}
"""Errors of the operating system that the same call gives every time."""


def typed(error: BaseException) -> Mm1Error | None:
    """The error with its outcome class for any exception; None for a bug.

    Every place that turns an exception into an exit code goes through here: steps, ranks, nodes and commands. Libraries are
    recognised by name, so that none is imported.
    """
    if isinstance(error, Mm1Error):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    text = str(error)
    if isinstance(error, MemoryError) or names & {"OutOfMemoryError", "OutOfMemoryException"}:
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if isinstance(error, OSError):
        return from_os_error(error)
    if "No space left on device" in text:  # safetensors and Rust libraries raise errors of their own
        return from_os_error(OSError(errno.ENOSPC, "no space left"))
    if isinstance(error, RuntimeError):
        return _typed_runtime_error(text)
    if "ValidationError" in names and isinstance(error, ValueError):  # pydantic
        return ConfigurationError(text)
    return None


def _typed_runtime_error(text: str) -> Mm1Error | None:
    """Torch and its backends tell their errors apart by the text only."""
    first = text.splitlines()[0].strip()[:300] if text else ""
    if first in OUT_OF_MEMORY_LINES or any(sign.lower() in text.lower() for sign in OUT_OF_MEMORY_SIGNS):
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if "can't start new thread" in text:  # as fork does in the same place
        return from_os_error(OSError(errno.EAGAIN, "no more threads or processes can be started"))
    if any(sign in text for sign in DEVICE_SIGNS):
        return HardwareError(f"a device reported a fault: {first}")
    if any(sign in text for sign in PEER_SIGNS):
        return NetworkError(f"the connection to another rank is lost: {first}")
    return None


def from_os_error(error: OSError) -> Mm1Error:
    """The error with its outcome class for an error of the operating system.

    A full disk, a lost connection or an input/output fault may pass (84). A path that is missing, forbidden or of the wrong
    kind, and a call that can never succeed, are the user's to fix (80).
    """
    name = error.filename2 or error.filename  # of two, the one that was being written
    where = f" ({name})" if name else ""
    if error.errno in NO_SPACE:
        return NetworkError(f"no space left on the disk{where}: free some space and run the same command again")
    if error.errno == errno.ENOMEM:
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if error.errno in MISSING:
        return ConfigurationError(f"no such file or folder{where}")
    if error.errno in FORBIDDEN:
        return ConfigurationError(f"not permitted{where}: {error.strerror}; check owner and mode, or name another place")
    if error.errno in NEVER_PASSES:
        return ConfigurationError(f"{NEVER_PASSES[error.errno]}{where}")
    return NetworkError(f"{error.strerror or error}{where}")
