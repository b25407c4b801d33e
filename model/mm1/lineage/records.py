"""Run records in a store: which runs there are, their tasks, times and outcomes.

The step wrapper writes one record per task, at ``runs/<run>/<task>.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError, Ending, Outcome
from mm1.store.base import Store, digest_of

EPOCH = datetime.fromtimestamp(0, UTC)


class TaskRecord(BaseModel):
    """One task's run record, as the step wrapper writes it; fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str = ""
    task: str
    step: str = ""
    state: str = "running"
    """running, done or failed; a process that was killed leaves ``running``."""
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
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


def read_run(store: Store, name: str) -> RunRecords:
    """The records of a run.

    Raises:
        ConfigurationError: there is no such run.
    """
    values = [store.read_json(key) for key in store.list(f"runs/{name}/") if key.endswith(".json")]
    records = [TaskRecord.model_validate(value) for value in values if value and "task" in value]
    if not records:
        known = run_names(store)
        hint = suggest(name, known) if known else "there are no runs yet"
        raise ConfigurationError(f"store {store.uri} has no run {name!r}; {hint}")
    records.sort(key=lambda record: record.started or EPOCH)
    return RunRecords(name, {record.task: record for record in records})


def all_runs(store: Store) -> list[RunRecords]:
    """All runs, newest first."""
    return sorted((read_run(store, name) for name in run_names(store)), key=lambda run: run.started, reverse=True)
