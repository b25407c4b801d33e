"""The run record of a step, written when it starts and when it ends. It is read by :mod:`mm1.lineage.records`."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from datetime import UTC, datetime
from typing import Any

from mm1 import machine
from mm1.errors import ConfigurationError, Ending, Mm1Error, Outcome
from mm1.lineage.records import record_key
from mm1.store.base import Store

log = logging.getLogger("mm1")

RECORD_VERSION = 1
RUN_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
Record = dict[str, Any]


def check_run_name(run: str) -> None:
    """Check that a run's name can be part of the keys of records, logs and outputs.

    Raises:
        ConfigurationError: it cannot.
    """
    if not RUN_NAME.fullmatch(run):
        raise ConfigurationError(f"run name: expected at most 63 letters, digits, '-', '.' and '_', got {run!r}")


def new_record(run: str, task: str, step: str) -> Record:
    """Return the record of a step that is starting."""
    return {
        "schema_version": RECORD_VERSION,
        "run": run,
        "task": task,
        "step": step,
        "state": "running",
        "started": _now(),
        "host": {"name": socket.gethostname(), "processor": machine.processor(), "cores": os.cpu_count()},
    }


def save(store: Store, record: Record) -> None:
    """Write a record; the first time, with the number of attempts since the task last succeeded."""
    key = record_key(record["run"], record["task"])
    if "attempts" not in record:
        previous = store.read_json(key) or {}
        record["attempts"] = 1 if previous.get("state") == "done" else int(previous.get("attempts", 0)) + 1
    store.write_json(key, record)


def save_ending(store: Store, record: Record, ending: Ending, started: float) -> None:
    """Write how a step ended.

    Args:
        store: where the record is.
        record: the step's record, updated in place.
        ending: outcome and message.
        started: monotonic clock at its start, s.

    Raises:
        Mm1Error, OSError: the store cannot be written.
    """
    record |= {
        "state": "done" if ending.outcome is Outcome.DONE else "failed",
        "outcome": int(ending.outcome),
        "message": ending.message,
        "ended": _now(),
        "seconds": round(time.monotonic() - started, 3),
    }
    save(store, record)


def save_failure(store: Store, record: Record, ending: Ending, started: float) -> None:
    """Write how a step failed; an error of the store does not change the outcome."""
    try:
        save_ending(store, record, ending, started)
    except (Mm1Error, OSError) as error:
        log.warning("the run record could not be written: %s", error)


def previous_final_outcome(store: Store, record: Record) -> Outcome | None:
    """Return the outcome of the previous attempt if it is permanent; None otherwise. Kubeflow retries every failure."""
    previous = store.read_json(record_key(record["run"], record["task"])) or {}
    outcome = Outcome.from_exit_code(previous.get("outcome", 0))
    if outcome is Outcome.DONE or outcome.retried:
        return None
    log.error("this task already failed permanently (%s): %s", outcome.label, previous.get("message"))
    return outcome


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
