"""Exceptions, their outcome classes, and records of how processes ended."""

from mm1.errors.ending import Ending, cause
from mm1.errors.outcomes import (
    BY_OUTCOME,
    EXPLAINS,
    RETRIED,
    SAVED,
    BudgetUsedUp,
    CheckpointError,
    ConfigurationError,
    DataError,
    DivergedError,
    HardwareError,
    Mm1Error,
    NetworkError,
    Outcome,
    OutOfMemory,
    Preempted,
)
from mm1.errors.recognize import from_os_error, typed
from mm1.errors.redact import redact

__all__ = [
    "BY_OUTCOME",
    "EXPLAINS",
    "RETRIED",
    "SAVED",
    "BudgetUsedUp",
    "CheckpointError",
    "ConfigurationError",
    "DataError",
    "DivergedError",
    "Ending",
    "HardwareError",
    "Mm1Error",
    "NetworkError",
    "OutOfMemory",
    "Outcome",
    "Preempted",
    "cause",
    "from_os_error",
    "redact",
    "typed",
]
