"""Run records in a store: which runs there are, their tasks, times and outcomes.

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
from mm1.errors import ConfigurationError, DataError, Ending, Outcome
from mm1.store.base import Store, digest_of

log = logging.getLogger("mm1")

LONGEST_REASON = 200
"""Characters of what is wrong with a record: it quotes the wrong value."""
EPOCH = datetime.fromtimestamp(0, UTC)


class TaskRecord(BaseModel):
    """One task's run record, as the step wrapper writes it; fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str = ""
    task: str
    step: str = ""
    state: str = "running"
    """running, done or failed; a process that was killed leaves ``running``."""
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    seconds: FiniteFloat | None = None
    outcome: int | None = None
    message: str = ""
    attempts: int = 1
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
        """State as a person reads it: done, cached, failed or unfinished."""
        if self.state == "done":
            return "cached" if self.cache_hit else "done"
        return "failed" if self.state == "failed" else "unfinished"

    @property
    def ending(self) -> Ending | None:
        """How it failed; None for one that did not, or that has not ended."""
        if self.state != "failed":
            return None
        outcome = Outcome.from_exit_code(1 if self.outcome is None else self.outcome)
        return Ending(outcome=outcome, message=self.message, where=self.task, host=str(self.host.get("name") or ""))

    @property
    def manifest(self) -> str:
        """Address of the manifest that it made; empty without one."""
        return str(self.outputs.get("manifest") or "")


@dataclass(frozen=True)
class RunRecords:
    """All records of one run."""

    name: str
    tasks: dict[str, TaskRecord]
    """Task -> record, in the order in which they started."""
    damaged: tuple[str, ...] = ()
    """Of each record that cannot be read: the file, what is wrong, and the remedy."""

    @property
    def started(self) -> datetime:
        """When its first task (of the latest attempt) started."""
        return min((record.started or EPOCH for record in self.tasks.values()), default=EPOCH)

    @property
    def state(self) -> str:
        """``running`` while any task is, else ``failed`` when any has, else ``done``."""
        states = {record.state for record in self.tasks.values()}
        return next((state for state in ("running", "failed") if state in states), "done")

    @property
    def seconds(self) -> float:
        """Work of all tasks, s."""
        return sum(record.seconds or 0.0 for record in self.tasks.values())

    @property
    def cache_hits(self) -> int:
        """Tasks whose outcome was known."""
        return sum(record.cache_hit for record in self.tasks.values())

    @property
    def failures(self) -> dict[str, str]:
        """Failed task -> outcome class."""
        return {task: ending.outcome.label for task, record in self.tasks.items() if (ending := record.ending)}

    @property
    def manifests(self) -> dict[str, str]:
        """Task -> address of the manifest that it made."""
        return {task: record.manifest for task, record in self.tasks.items() if record.manifest}


def record_key(run: str, task: str) -> str:
    """The object's name of a run record; characters that no file name may have (of a loop's item) are replaced."""
    plain = re.sub(r"[^-\w.]+", "_", task)
    suffix = "" if plain == task else f"-{digest_of(task.encode())[:8]}"
    return f"runs/{run}/{plain[:120]}{suffix}.json"


def run_names(store: Store) -> list[str]:
    """Names of all runs that left records."""
    return sorted({key.split("/")[1] for key in store.list("runs/") if key.count("/") == 2 and key.endswith(".json")})


def read_record(store: Store, key: str) -> TaskRecord:
    """One record.

    Raises:
        DataError: it is damaged, or gone.
    """
    remedy = "restore it, or delete it to forget this task"
    try:
        return TaskRecord.model_validate(store.read_json(key))
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from None
    except ValidationError as error:
        raise DataError(f"{store.uri}/{key} is no run record: {explain(error)[:LONGEST_REASON]}; {remedy}") from None


def read_run(store: Store, name: str) -> RunRecords:
    """The records of a run.

    Raises:
        ConfigurationError: there is no such run.
        DataError: a record is damaged.
    """
    run = _read(store, name)
    if run.damaged:
        raise DataError(run.damaged[0])
    if not run.tasks:
        known = run_names(store)
        hint = suggest(name, known) if known else "there are no runs yet"
        raise ConfigurationError(f"store {store.uri} has no run {name!r}; {hint}")
    return run


def all_runs(store: Store) -> list[RunRecords]:
    """All runs, newest first, with what of them can be read."""
    return sorted((_read(store, name) for name in run_names(store)), key=lambda run: run.started, reverse=True)


def readable_runs(store: Store) -> list[RunRecords]:
    """All runs, newest first, but for those of which nothing can be read; damaged records are named in warnings."""
    runs = all_runs(store)
    for problem in (problem for run in runs for problem in run.damaged):
        log.warning("left out: %s", problem)
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
    return RunRecords(name, {record.task: record for record in records}, tuple(damaged))
