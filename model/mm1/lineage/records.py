"""Run records in a store: runs, their tasks, times and outcomes.

The step wrapper writes one record per task, at ``runs/<run>/<task>.json``.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, ValidationError

from mm1.config.resolve import explain, suggest
from mm1.errors import SAVED, ConfigurationError, DataError, Ending, Outcome
from mm1.manifests import MANIFEST_NAME, manifest_key
from mm1.store.base import Store, digest_of

log = logging.getLogger("mm1")

MAX_REASON_LENGTH = 200
"""Maximum length of a validation error in a message, because it quotes the invalid value."""
EPOCH = datetime.fromtimestamp(0, UTC)


class TaskRecord(BaseModel):
    """Run record of one task, written by the step wrapper; fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str = ""
    task: str
    step: str = ""
    state: str = "running"
    """running, done or failed; a killed process leaves ``running``."""
    started: AwareDatetime | None = None
    alive: AwareDatetime | None = None
    """Last sign of life of a running task; None in records of MM1 0.1."""
    ended: AwareDatetime | None = None
    seconds: FiniteFloat | None = None
    outcome: int | None = None
    message: str = ""
    attempts: int = 1
    within: str = ""
    """Task that did this work as a part of its own; empty for a task of the workflow."""
    superseded: bool = False
    """Whether a later attempt of the run did not have the task, for example an item that is no longer in a loop."""
    cache_hit: bool = False
    cache_key: str = ""
    code: str = ""
    host: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    artifacts: dict[str, Any] = {}

    @property
    def status(self) -> str:
        """Human-readable state: done, cached, failed, stopped or unfinished."""
        if self.state == "done":
            return "cached" if self.cache_hit else "done"
        if self.state != "failed":
            return "unfinished"
        return "stopped" if self.outcome in SAVED else "failed"

    @property
    def ending(self) -> Ending | None:
        """How the task failed; None if it succeeded or is still running."""
        if self.state != "failed":
            return None
        outcome = Outcome.from_exit_code(1 if self.outcome is None else self.outcome)
        return Ending(outcome=outcome, message=self.message, where=self.task, host=str(self.host.get("name") or ""))

    @property
    def manifest(self) -> str:
        """Address of the task's manifest; empty if there is none."""
        return str(self.outputs.get("manifest") or "")


@dataclass(frozen=True)
class RunRecords:
    """All records of one run."""

    name: str
    tasks: dict[str, TaskRecord]
    """Task -> record, in the order of start times, without those that a later attempt superseded."""
    damaged: tuple[str, ...] = ()
    """For each unreadable record: the file, the error, and the remedy."""

    @property
    def own(self) -> dict[str, TaskRecord]:
        """The tasks of the workflow, without the work within them."""
        return {task: record for task, record in self.tasks.items() if not record.within}

    @property
    def started(self) -> datetime:
        """Start time of the first task (of the latest attempt)."""
        return min((record.started or EPOCH for record in self.tasks.values()), default=EPOCH)

    @property
    def state(self) -> str:
        """``running`` if any task is, otherwise ``failed`` or ``stopped`` if any has, otherwise ``done``.

        A task that was stopped after another one failed, and started later, belongs to a later attempt.
        """
        by_status: dict[str, list[TaskRecord]] = {}
        for record in self.own.values():
            by_status.setdefault(record.status, []).append(record)
        if "unfinished" in by_status:
            return "running"
        failed = max((record.ended or EPOCH for record in by_status.get("failed", ())), default=None)
        stopped = max((record.started or EPOCH for record in by_status.get("stopped", ())), default=None)
        if stopped is not None and (failed is None or stopped > failed):
            return "stopped"
        return "done" if failed is None else "failed"

    @property
    def seconds(self) -> float:
        """Total work of all tasks, s."""
        return sum(record.seconds or 0.0 for record in self.own.values())

    @property
    def cache_hits(self) -> int:
        """Number of tasks whose results came from the cache."""
        return sum(record.cache_hit for record in self.own.values())

    @property
    def failures(self) -> dict[str, str]:
        """Failed task -> outcome class."""
        return {task: ending.outcome.label for task, record in self.own.items() if (ending := record.ending)}

    @property
    def manifests(self) -> dict[str, str]:
        """Task -> address of its manifest."""
        return {task: record.manifest for task, record in self.tasks.items() if record.manifest}


LONGEST_NAME = 120
"""Characters of a task in the name of its record; those of longer ones are cut, and have a digest."""


def record_key(run: str, task: str) -> str:
    """Return the object name of a run record; characters that are invalid in file names (from loop items) are replaced."""
    plain = re.sub(r"[^-\w.]+|^\.", "_", task)  # no hidden file
    suffix = "" if plain[:LONGEST_NAME] == task else f"-{digest_of(task.encode())[:8]}"
    return f"runs/{run}/{plain[:LONGEST_NAME]}{suffix}.json"


def supersede(store: Store, key: str) -> None:
    """Mark the record of a task that the latest attempt of its run does not have; the manifests that it names are kept."""
    if record := store.read_json(key):
        store.write_json(key, record | {"superseded": True})


def run_names(store: Store) -> list[str]:
    """List the names of all runs with records."""
    return sorted({key.split("/")[1] for key in store.list("runs/") if key.count("/") == 2 and key.endswith(".json")})


def read_record(store: Store, key: str) -> TaskRecord:
    """Read one record. The address of its manifest is that in this store, which may be a copy of the one that was written to.

    Raises:
        DataError: damaged or missing.
    """
    remedy = "restore it, or delete it to discard the task's record"
    try:
        record = TaskRecord.model_validate(store.read_json(key))
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from None
    except ValidationError as error:
        raise DataError(
            f"{store.uri}/{key} is not a valid run record: {explain(error)[:MAX_REASON_LENGTH]}; {remedy}"
        ) from None
    if match := MANIFEST_NAME.match(record.manifest):
        address = f"{store.uri}/{manifest_key(match['digest'])}"  # in this copy of the store
        return record.model_copy(update={"outputs": record.outputs | {"manifest": address}})
    return record


def read_run(store: Store, name: str) -> RunRecords:
    """Read the records of a run.

    Raises:
        ConfigurationError: the run does not exist.
        DataError: a record is damaged.
    """
    run = _read(store, name)
    if run.damaged:
        raise DataError(run.damaged[0])
    if not run.tasks:
        names = run_names(store)
        hint = suggest(name, names) if names else "there are no runs yet"
        raise ConfigurationError(f"store {store.uri} has no run {name!r}; {hint}")
    return run


def all_runs(store: Store) -> list[RunRecords]:
    """Read all runs, newest first, including those with damaged records."""
    return sorted((_read(store, name) for name in run_names(store)), key=lambda run: run.started, reverse=True)


def readable_runs(store: Store) -> list[RunRecords]:
    """Read all runs with a readable record, newest first; damaged records are logged as warnings."""
    runs = all_runs(store)
    for problem in (problem for run in runs for problem in run.damaged):
        log.warning("skipped: %s", problem)
    return [run for run in runs if run.tasks]


def _read(store: Store, name: str) -> RunRecords:
    records, damaged = [], []
    for key in store.list(f"runs/{name}/"):
        if key.endswith(".json"):
            try:
                records.append(read_record(store, key))
            except DataError as error:
                damaged.append(str(error))
    records.sort(key=lambda record: record.started or EPOCH)
    return RunRecords(name, {record.task: record for record in records if not record.superseded}, tuple(damaged))
