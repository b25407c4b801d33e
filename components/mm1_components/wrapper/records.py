"""The run record of a step, written when it starts and when it ends. It is read by :mod:`mm1.lineage.records`."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mm1 import machine
from mm1.errors import ConfigurationError, DataError, Ending, Outcome
from mm1.lineage.records import record_key
from mm1.store.base import Store
from mm1_components.wrapper import traces

log = logging.getLogger("mm1")

RECORD_VERSION = 1
HEARTBEAT_S = 300.0
"""Time between two signs of life of a running task; :mod:`mm1.lineage.gc` waits for several."""
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
    if "attempts" not in record:
        previous = _previous(store, record)
        number = previous.get("attempts", 0)
        is_new = previous.get("state") == "done" or type(number) is not int
        record["attempts"] = 1 if is_new else number + 1
    if record["state"] == "running":
        record["alive"] = _now()
    store.write_json(record_key(record["run"], record["task"]), record)


def _previous(store: Store, record: Record) -> Record:
    """Return the record of the previous attempt; empty if there is none, or if it is damaged."""
    try:
        previous = store.read_json(record_key(record["run"], record["task"]))
    except DataError as error:
        log.warning("the record of the previous attempt does not count: %s", error)
        return {}
    return previous if isinstance(previous, dict) else {}


@contextmanager
def signs_of_life(store: Store, record: Record) -> Iterator[None]:
    """Write the record again every few minutes, so that `mm1 gc` knows that its task is running.

    The record must not change meanwhile. An error of the store is logged; the task itself will notice if the store is gone.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                store.write_json(record_key(record["run"], record["task"]), record | {"alive": _now()})
            except Exception as error:  # noqa: BLE001 - nothing about this may end the work
                log.warning("the sign of life of this task could not be written: %s", error)

    thread = threading.Thread(target=repeat, name="mm1-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # a late write would replace the record of the end


@contextmanager
def recorded(store: Store, record: Record) -> Iterator[None]:
    """Write the record of a task when its work starts and when it ends, also if it fails; it becomes a span of the trace."""
    started = time.monotonic()
    with traces.traced(store.uri, record):
        try:
            save(store, record)
            yield
            save_ending(store, record, Ending(outcome=Outcome.DONE), started)
        except (Exception, SystemExit) as error:
            save_failure(store, record, Ending.of(error), started)
            raise


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
    """Write how a step failed; no error about this changes the outcome."""
    try:
        save_ending(store, record, ending, started)
    except Exception as error:  # noqa: BLE001 - such as a message that cannot be encoded
        log.warning("the run record could not be written: %s", error)


def previous_final_outcome(store: Store, record: Record) -> Outcome | None:
    """Return the outcome of the previous attempt if it is permanent; None otherwise. Kubeflow retries every failure."""
    previous = _previous(store, record)
    number = previous.get("outcome", 0)
    outcome = Outcome.from_exit_code(number) if type(number) is int else Outcome.DONE
    if outcome is Outcome.DONE or outcome.retried:
        return None
    log.error("this task already failed permanently (%s): %s", outcome.label, previous.get("message"))
    return outcome


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
