"""Run records in a store, as the commands read them: which runs there are, their tasks, times and outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError, Outcome
from mm1.store.base import Store

Record = dict[str, Any]


@dataclass(frozen=True)
class RunRecords:
    """All records of one run."""

    name: str
    tasks: dict[str, Record]
    """Task -> record, in the order in which they started."""

    @property
    def started(self) -> str:
        """When its first task (of the latest attempt) started, ISO 8601, UTC."""
        return min((record["started"] for record in self.tasks.values()), default="")

    @property
    def ended(self) -> str:
        """When its last task ended or started."""
        return max((record.get("ended") or record["started"] for record in self.tasks.values()), default="")

    @property
    def state(self) -> str:
        """``running`` while any task is, else ``failed`` when any has, else ``done``."""
        states = {record["state"] for record in self.tasks.values()}
        return next((state for state in ("running", "failed") if state in states), "done")

    @property
    def seconds(self) -> float:
        """Work of all tasks, s."""
        return sum(float(record.get("seconds", 0)) for record in self.tasks.values())

    @property
    def cache_hits(self) -> int:
        """Tasks whose outcome was known."""
        return sum(bool(record.get("cache_hit")) for record in self.tasks.values())

    @property
    def failures(self) -> dict[str, str]:
        """Failed task -> outcome class."""
        return {
            task: Outcome.from_exit_code(int(record.get("outcome", 1))).name.lower()
            for task, record in self.tasks.items()
            if record["state"] == "failed"
        }


def run_names(store: Store) -> list[str]:
    """Names of all runs that left records."""
    return sorted({key.split("/")[1] for key in store.list("runs/") if key.count("/") == 2 and key.endswith(".json")})


def read_run(store: Store, name: str) -> RunRecords:
    """The records of a run.

    Raises:
        ConfigurationError: there is no such run.
    """
    records = [store.read_json(key) for key in store.list(f"runs/{name}/") if key.endswith(".json")]
    usable = sorted((record for record in records if record and "task" in record), key=lambda record: str(record["started"]))
    if not usable:
        known = run_names(store)
        hint = suggest(name, known) if known else "there are no runs yet"
        raise ConfigurationError(f"store {store.uri} has no run {name!r}; {hint}")
    return RunRecords(name, {record["task"]: record for record in usable})


def all_runs(store: Store) -> list[RunRecords]:
    """All runs, newest first."""
    return sorted((read_run(store, name) for name in run_names(store)), key=lambda run: run.started, reverse=True)


def outputs(run: RunRecords) -> dict[str, str]:
    """Task -> address of the manifest that it made."""
    made = {task: record.get("outputs") or {} for task, record in run.tasks.items()}
    return {task: str(values["manifest"]) for task, values in made.items() if values.get("manifest")}
