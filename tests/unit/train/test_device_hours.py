"""Device hours: counted from the start of the process, over all attempts of a run, and only by rank 0."""

from __future__ import annotations

import threading

import pytest

from mm1 import machine
from mm1.store.local import LocalStore
from mm1.train import run_files
from mm1.train.callbacks.device_hours import DeviceHours
from mm1.train.progress import Progress

START = 1_700_000_000.0
PROGRESS = Progress(total_steps=2)


class Clock:
    """A clock that a test moves."""

    time = START

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(machine, "process_started", lambda: START)
    return Clock()


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def counter(store: LocalStore, clock: Clock, run: str = "r", **keywords) -> DeviceHours:
    return DeviceHours(store, "work", run, clock=clock, **{"devices": 4, **keywords})


def test_an_hour_of_four_processes_is_four_device_hours(store, clock):
    hours = counter(store, clock, limit=4.0)
    hours.on_start(PROGRESS)
    clock.time += 3599
    assert not hours.used_up and hours.spent == pytest.approx(3.9989, abs=1e-4)
    clock.time += 1
    assert hours.used_up
    hours.on_end(PROGRESS)
    assert run_files.device_hours(store, "work", "r") == 4.0


def test_earlier_attempts_of_the_run_count_and_other_runs_do_not(store, clock):
    run_files.put_device_hours(store, "work", "r", START - 500, 2.5)
    run_files.put_device_hours(store, "work", "r", START - 400, 0.5)
    run_files.put_device_hours(store, "work", "other", START - 300, 100.0)
    run_files.put_device_hours(store, "another", "r", START - 200, 100.0)
    hours = counter(store, clock, limit=3.5)
    hours.on_start(PROGRESS)
    assert hours.spent == 3.0 and not hours.used_up
    clock.time += 450
    assert hours.used_up
    hours.on_end(PROGRESS)
    hours.on_start(PROGRESS)  # the same process is not counted twice
    assert hours.spent == 3.5
    hours.on_end(PROGRESS)


def test_a_trainer_that_is_killed_has_written_its_count(store, clock):
    hours = counter(store, clock, every_s=0.01)
    hours.on_start(PROGRESS)
    clock.time += 900
    written = threading.Event()
    for _ in range(500):
        if run_files.device_hours(store, "work", "r") == 1.0:
            written.set()
            break
        written.wait(0.01)
    assert written.is_set()
    hours.on_end(PROGRESS)


def test_without_a_limit_nothing_is_used_up_and_other_ranks_do_not_count(store, clock):
    clock.time += 10**9
    assert not counter(store, clock).used_up
    other = counter(store, clock, limit=1.0, rank=1)
    other.on_start(PROGRESS)
    other.on_end(PROGRESS)
    other.keep()
    assert not other.used_up and not list(store.list("watch/"))


def test_an_unreachable_store_does_not_end_the_run(store, clock, caplog, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(5, "gone")

    monkeypatch.setattr(LocalStore, "list", fail)
    monkeypatch.setattr(LocalStore, "write", fail)
    hours = counter(store, clock, limit=1.0)
    hours.on_start(PROGRESS)
    hours.on_end(PROGRESS)
    assert "the device hours of earlier attempts do not count" in caplog.text
    assert "cannot store the device hours so far" in caplog.text


def test_files_of_a_run_do_not_include_the_count(store, clock, tmp_path):
    counter(store, clock).keep()
    assert run_files.take(store, "work", tmp_path / "metrics.jsonl") == {}
    run_files.forget(store, "work")
    assert run_files.device_hours(store, "work", "r") == 0
