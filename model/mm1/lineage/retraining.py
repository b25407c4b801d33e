"""The retraining of a target: what the last one was about, how it ended, and what it cost.

The step ``decide`` writes ``retraining/<target>.json`` in the store when it decides to train again. A retraining that was
interrupted (its budget was used up, it was preempted, the network failed) is continued with the same data, time and initial
checkpoint, so that its mixtures are the same and training resumes from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from mm1.config.resolve import explain
from mm1.errors import ConfigurationError, DataError, Outcome
from mm1.lineage.gc import running_tasks
from mm1.lineage.records import RunRecords, TaskRecord, read_run
from mm1.lineage.serving import check_target
from mm1.manifests import Checkpoint, DataMix, Deployment, Digest, RawData, load_digest
from mm1.store.base import Store

PREFIX = "retraining/"
INTERRUPTED = frozenset({Outcome.BUDGET, Outcome.PREEMPTED, Outcome.NETWORK})
"""Outcomes after which a retraining is continued."""
TRAINING = frozenset({"pretrain", "pretrain_vision", "sft"})
"""Steps whose device hours count."""
AROUND = ("ingest", "decide", "data_mix", "report")
"""First words of steps before the training, and of the exit task, which show nothing about it."""
HOUR_S = 3600.0


class Retraining(BaseModel):
    """What a decision to train again was about."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    time: AwareDatetime
    sources: tuple[str, ...]
    data: Digest
    """The RawData of the mixtures."""
    as_of: AwareDatetime
    """Time of the mixtures."""
    init: str = ""
    """Address of the Checkpoint that the training starts from; empty = none."""
    reason: str = ""


class State(BaseModel):
    """Content of the file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    last: Retraining | None = None
    period_started: AwareDatetime | None = None
    """Beginning of the budget's period."""
    spent: dict[str, NonNegativeFloat] = Field(default={})
    """Run of the period -> its device hours when they were last counted."""

    def in_period(self, now: datetime, days: float) -> State:
        """Return the state with a new period if the previous one is over."""
        if self.period_started is not None and now < self.period_started + timedelta(days=days):
            return self
        return self.model_copy(update={"period_started": now, "spent": {}})


def read_state(store: Store, target: str) -> State:
    """Read the state of a target; an empty one before its first retraining.

    Raises:
        DataError: the file is damaged.
    """
    key = state_key(target)
    try:
        value = store.read_json(key)
        return State.model_validate({} if value is None else value)
    except (DataError, ValidationError) as error:
        reason = explain(error)[:200] if isinstance(error, ValidationError) else str(error)
        raise DataError(
            f"{store.uri}/{key} is damaged: {reason}; restore it from a backup, or delete it: the next decision then compares "
            "with the last mixture, and an interrupted retraining starts again"
        ) from None


def write_state(store: Store, target: str, state: State) -> None:
    """Write the state of a target."""
    store.write_json(state_key(target), state.model_dump(mode="json"))


def state_key(target: str) -> str:
    """Return the object name of a target's state."""
    check_target(target)
    return f"{PREFIX}{target}.json"


class End(NamedTuple):
    """How a retraining ended."""

    running: str = ""
    """Task that is running; empty if none is."""
    interrupted: str = ""
    """Why it is to be continued; empty if it is over."""


def end_of(store: Store, last: Retraining, own_run: str = "") -> End:
    """Find how the run of a retraining ended.

    Args:
        store: store with its records.
        last: the retraining.
        own_run: run that asks: if it is the same, its tasks are an earlier attempt's.

    Raises:
        DataError: a record of the run is damaged.
    """
    try:
        run = read_run(store, last.run)
    except ConfigurationError:  # its records were removed
        return End()
    if last.run != own_run and (running := running_tasks(store, [run]).get(last.run)):
        return End(running=running[0])
    tasks = [task for task in run.own.values() if not task.step.startswith(AROUND)]
    if not tasks:
        return End(interrupted="it was stopped before its training")
    endings = [task.ending for task in tasks if task.ending]
    if any(ending.outcome not in INTERRUPTED for ending in endings):
        return End()
    if endings:
        return End(interrupted=f"{endings[0].where} ended with {endings[0].outcome.label} ({int(endings[0].outcome)})")
    unfinished = [task.task for task in tasks if task.state == "running"]
    return End(interrupted=f"{unfinished[0]} was killed") if unfinished else End()


def device_hours(store: Store, run: str) -> float | None:
    """Return the device hours of a run's training, from its records; None if it has none.

    Raises:
        DataError: a record of the run is damaged.
    """
    try:
        records = read_run(store, run)
    except ConfigurationError:
        return None
    return sum(map(_hours, _trainings(records)))


def _trainings(run: RunRecords) -> Iterator[TaskRecord]:
    return (task for task in run.tasks.values() if task.step in TRAINING and not task.cache_hit)


def _hours(task: TaskRecord) -> float:
    """Return the device hours of a task: as its trainer counted them, or from its duration and the number of processes."""
    counted = task.facts.get("device_hours")
    if isinstance(counted, int | float):
        return max(0.0, float(counted))
    seconds = task.seconds or 0.0
    if not seconds and task.started and task.alive:  # it was killed
        seconds = (task.alive - task.started).total_seconds()
    processes = task.facts.get("processes") or int(task.inputs.get("nodes") or 1) * int(task.inputs.get("processes") or 1)
    return max(0.0, seconds) * float(processes) / HOUR_S


# -- lineage of the served model --------------------------------------------------------------------------------------


def pretrained(store: Store, deployment: Digest) -> Digest | None:
    """Return the pre-trained Checkpoint that a Deployment's model comes from; None if it has none.

    Raises:
        DataError: a manifest of the lineage does not exist.
    """
    queue = [deployment]
    for digest in queue:
        manifest = load_digest(store, digest)
        if isinstance(manifest, Checkpoint) and manifest.stage == "pretrain":
            return digest
        if isinstance(manifest, Deployment | Checkpoint):
            queue.extend(manifest.parents)
    return None


def tokenizer_origin(store: Store, checkpoint: Digest) -> Digest:
    """Return the oldest manifest with the tokenizer of a Checkpoint, which stays the same while its successors use it.

    Raises:
        DataError: the manifest does not exist.
    """
    manifest, digest = load_digest(store, checkpoint), checkpoint
    while True:
        match manifest:
            case RawData(parents=(parent, *_)) | DataMix(raw=parent) | Checkpoint(parents=(parent, *_)):
                pass
            case _:
                return digest
        try:
            manifest, digest = load_digest(store, parent), parent
        except DataError:  # removed: the successor has the same files
            return digest
