"""Mapping of exceptions to Mm1Error classes.

All code that turns an exception into an exit code goes through :func:`typed`: steps, ranks, nodes and commands. Exceptions of
libraries are recognised by class name, or by message if there is no specific class, so no library is imported.
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
"""Messages of C++ and CUDA libraries' out-of-memory errors that are not `MemoryError`."""
OUT_OF_MEMORY_LINES = ("could not create a primitive",)
"""Complete first lines of such errors: oneDNN's when memory runs out. For an unsupported operation it adds more text."""
DEVICE_SIGNS = ("uncorrectable ECC", "ECC error", "hardware failure", "fell off the bus", "busy or unavailable")
"""Messages of CUDA errors that another device may not have."""
PEER_SIGNS = re.compile(
    r"Connection closed by peer|Connection reset by peer|Broken pipe|\bNCCL\b|\bgloo\b|Timed out waiting|socket has timed out"
)
"""Messages of collectives when another rank is gone."""
USAGE_SIGNS = ("Duplicate GPU", "invalid usage", "ncclInvalidUsage")
"""NCCL messages about an invalid placement of ranks, independent of peers."""
CERTIFICATE_SIGNS = re.compile(
    r"certificate.verify.failed|alert.*certificate|no.certificate|unknown.ca\b|PEM lib", re.IGNORECASE
)
"""OpenSSL messages about server or client certificates."""
CONNECTION_ERRORS = {"ConnectionError", "TimeoutError", "URLError", "RequestException"}
"""Connection-related subclasses of OSError, with or without an errno: builtins, urllib, requests."""
ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)
"""The errno in the message of an OSError created from another one's message."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
MISSING = (errno.ENOENT, errno.ENOTDIR)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
PERMANENT = {
    errno.EISDIR: "is a directory, expected a file",
    errno.EEXIST: "already exists",
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
    errno.EADDRNOTAVAIL: "the address does not belong to this machine",
}
"""Permanent errors of the operating system: the same call fails every time."""


def typed(error: BaseException) -> Mm1Error | None:
    """Map an exception to the error with its outcome class; None for a bug.

    An unrecognised exception has the class of its cause (``raise ... from ...``). An exception group has the class of the
    member that explains the others.
    """
    return _typed(error, frozenset())


def text_of(error: BaseException) -> str:
    """Return the message of an exception; its class name if the message is empty or formatting it fails."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a library's __str__ may raise anything
        return type(error).__name__


def _typed(error: BaseException, above: frozenset[int]) -> Mm1Error | None:
    """Implement :func:`typed`; a cycle back to one of the exceptions ``above`` ends the chain."""
    if id(error) in above or not isinstance(error, Exception):
        return None
    above |= {id(error)}
    if isinstance(error, ExceptionGroup):
        members = [_typed(member, above) for member in error.exceptions]
        return min(members, key=lambda member: EXPLAINS.index(member.outcome if member else Outcome.UNHANDLED))
    typed_error = _typed_by_class(error)
    return _typed(error.__cause__, above) if typed_error is None and error.__cause__ is not None else typed_error


def _typed_by_class(error: Exception) -> Mm1Error | None:
    if isinstance(error, Mm1Error):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    text = text_of(error)
    if isinstance(error, MemoryError) or names & {"OutOfMemoryError", "OutOfMemoryException"}:
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if isinstance(error, OSError) and (typed_error := _typed_os_error(error, names, text)):
        return typed_error
    if "No space left on device" in text:  # safetensors and Rust libraries raise their own classes
        return from_os_error(OSError(errno.ENOSPC, "no space left"))
    if isinstance(error, RuntimeError):
        return _typed_runtime_error(names, text)
    if "ValidationError" in names and isinstance(error, ValueError):  # pydantic
        return ConfigurationError(text)
    return None


def _typed_runtime_error(names: set[str], text: str) -> Mm1Error | None:
    """Recognise RuntimeErrors, mostly by message: torch has classes only for some distributed errors."""
    first = text.splitlines()[0].strip()[:300] if text else ""
    if first in OUT_OF_MEMORY_LINES or any(sign.lower() in text.lower() for sign in OUT_OF_MEMORY_SIGNS):
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if "can't start new thread" in text:  # the same cause as EAGAIN from fork
        return from_os_error(OSError(errno.EAGAIN, "no more threads or processes can be started"))
    if any(sign in text for sign in DEVICE_SIGNS):
        return HardwareError(f"a device reported a fault: {first}")
    if "NCCL" in text and (sign := next((sign for sign in USAGE_SIGNS if sign in text), None)):
        return ConfigurationError(f"NCCL rejected these ranks ({sign}): give each rank its own GPU; {first}")
    if "DistError" in names or PEER_SIGNS.search(text):  # torch.distributed: network, store and backend
        return NetworkError(f"the connection to another rank was lost: {first}")
    return None


def _typed_os_error(error: OSError, names: set[str], text: str) -> Mm1Error | None:
    """Recognise errors of the operating system; None for library exceptions that only subclass OSError."""
    if names & {"SSLError", *CONNECTION_ERRORS} and CERTIFICATE_SIGNS.search(text):
        remedy = "check the address, or set SSL_CERT_FILE to the file of the certificate authority"
        return ConfigurationError(f"TLS certificate verification failed: {remedy} ({text})")
    if "SSLError" in names:  # its errno values are OpenSSL's
        return NetworkError(f"the TLS connection was lost: {text}")
    if names & {"gaierror", "herror"}:  # their errno values are the resolver's
        return NetworkError(f"cannot resolve a host name: {text}")
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
    """Map an operating-system error to the error with its outcome class.

    A full disk, a lost connection or an I/O error may be transient (84). A missing or forbidden path, a path of the wrong kind,
    or a call that can never succeed is the user's to fix (80).
    """
    name = error.filename2 or error.filename  # of two, the target
    where = f" ({name})" if name else ""
    if error.errno in NO_SPACE:
        return NetworkError(f"no space left on the disk{where}: free some space and run the same command again")
    if error.errno == errno.ENOMEM:
        return OutOfMemory(OUT_OF_MEMORY_HINT)
    if error.errno in MISSING:
        return ConfigurationError(f"no such file or directory{where}")
    if error.errno in FORBIDDEN:
        return ConfigurationError(f"permission denied{where}: {error.strerror}; check owner and mode, or choose another path")
    if error.errno in PERMANENT:
        return ConfigurationError(f"{PERMANENT[error.errno]}{where}")
    return NetworkError(f"{error.strerror or error}{where}")
