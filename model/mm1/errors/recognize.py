"""From any exception to the error with its outcome class.

Every place that turns an exception into an exit code goes through :func:`typed`: steps, ranks, nodes and commands. Libraries
are recognised by the names of their classes, or by their words where they have no class for it, so that none is imported.
"""

from __future__ import annotations

import errno
import re

from mm1.errors.outcomes import (
    EXPLAINS,
    ConfigurationError,
    DataError,
    HardwareError,
    Mm1Error,
    NetworkError,
    Outcome,
    OutOfMemory,
)

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
PEER_SIGNS = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|\bNCCL\b|\bgloo\b|Timed out waiting|socket has timed out"
)
"""Texts of errors of collectives when another rank is gone."""
USAGE_SIGNS = ("Duplicate GPU", "invalid usage", "ncclInvalidUsage")
"""Texts of NCCL when the ranks are laid out wrongly, with or without peers."""
CERTIFICATE_SIGNS = re.compile(
    r"certificate.verify.failed|alert.*certificate|no.certificate|unknown.ca\b|PEM lib", re.IGNORECASE
)
"""Texts of OpenSSL about certificates of either side."""
CONNECTION_ERRORS = {"ConnectionError", "TimeoutError", "URLError", "RequestException"}
"""Classes of OSError that are about a connection, whether or not they carry a number: builtins, urllib, requests."""
ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)
"""The number in the text of an OSError that was made from another one's text."""
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

    An exception that is not known by itself has the class of what it was raised from (``raise ... from ...``). A group has the
    class of the exception in it that explains the others.
    """
    return _typed(error, frozenset())


def text_of(error: BaseException) -> str:
    """The text of an exception; the name of its class where there is none, or where making it fails."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - whatever a library does there
        return type(error).__name__


def _typed(error: BaseException, above: frozenset[int]) -> Mm1Error | None:
    """As :func:`typed`; chains that come back to one of the exceptions ``above`` end there."""
    if id(error) in above or not isinstance(error, Exception):
        return None
    above |= {id(error)}
    if isinstance(error, ExceptionGroup):
        members = [_typed(member, above) for member in error.exceptions]
        return min(members, key=lambda member: EXPLAINS.index(member.outcome if member else Outcome.UNHANDLED))
    known = _typed_alone(error)
    return _typed(error.__cause__, above) if known is None and error.__cause__ is not None else known


def _typed_alone(error: Exception) -> Mm1Error | None:
    if isinstance(error, Mm1Error):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    text = text_of(error)
    if isinstance(error, MemoryError) or names & {"OutOfMemoryError", "OutOfMemoryException"}:
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if isinstance(error, OSError) and (known := _typed_os_error(error, names, text)):
        return known
    if "No space left on device" in text:  # safetensors and Rust libraries raise errors of their own
        return from_os_error(OSError(errno.ENOSPC, "no space left"))
    if isinstance(error, RuntimeError):
        return _typed_runtime_error(names, text)
    if "ValidationError" in names and isinstance(error, ValueError):  # pydantic
        return ConfigurationError(text)
    return None


def _typed_runtime_error(names: set[str], text: str) -> Mm1Error | None:
    """Torch has classes for what goes wrong between ranks; the rest is told apart by the text only."""
    first = text.splitlines()[0].strip()[:300] if text else ""
    if first in OUT_OF_MEMORY_LINES or any(sign.lower() in text.lower() for sign in OUT_OF_MEMORY_SIGNS):
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if "can't start new thread" in text:  # as fork does in the same place
        return from_os_error(OSError(errno.EAGAIN, "no more threads or processes can be started"))
    if any(sign in text for sign in DEVICE_SIGNS):
        return HardwareError(f"a device reported a fault: {first}")
    if "NCCL" in text and (sign := next((sign for sign in USAGE_SIGNS if sign in text), None)):
        return ConfigurationError(f"NCCL refuses these ranks ({sign}): give each rank a GPU of its own; {first}")
    if "DistError" in names or PEER_SIGNS.search(text):  # torch.distributed: network, store and backend
        return NetworkError(f"the connection to another rank is lost: {first}")
    return None


def _typed_os_error(error: OSError, names: set[str], text: str) -> Mm1Error | None:
    """Errors of the operating system; None for a library's that is an OSError only by its class."""
    if names & {"SSLError", *CONNECTION_ERRORS} and CERTIFICATE_SIGNS.search(text):
        remedy = "check the address, or name the file of the certificate authority in SSL_CERT_FILE"
        return ConfigurationError(f"the certificate of a TLS connection is not accepted: {remedy} ({text})")
    if "SSLError" in names:  # its numbers are OpenSSL's
        return NetworkError(f"the TLS connection is lost: {text}")
    if names & {"gaierror", "herror"}:  # their numbers are the resolver's
        return NetworkError(f"the name of a host cannot be resolved: {text}")
    if isinstance(error.errno, int):
        return from_os_error(error)
    if match := ERRNO.search(text):
        return from_os_error(OSError(int(match[1]), text))
    if "UnidentifiedImageError" in names:  # Pillow
        return DataError(text)
    if "SameFileError" in names:  # shutil
        return ConfigurationError(text)
    return NetworkError(text) if names & CONNECTION_ERRORS else None


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
