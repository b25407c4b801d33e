"""The metrics of a training, as Prometheus scrapes them: values of progress lines, states, and what damaged lines do."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mm1.errors import Outcome, Preempted
from mm1.monitoring.training import PENDING, QUEUED, RUN_LABELS, STATES, TRAINING
from mm1_components.ranks.metrics_server import THIS_MACHINE, exposed
from mm1_components.ranks.stuck import FLOOR_S
from mm1_components.ranks.training_metrics import MAX_VALUES, TrainingMetrics
from tests.support import training_output
from tests.support.tiny_runs import small_run

CONFIG = small_run("mm1_tiny", "log.progress_every_s=1")
LINE: dict[str, Any] = training_output.LINE | {
    "step_s": 0.21,
    "skipped": 1,
    "spikes": 2,
    "goodput": 0.97,
    "mfu": 0.34,
    "phases": {"data": 0.12, "forward": 0.3},
    "straggler": {"rank": 3, "slower": 0.14},
    "checkpoint": {"step": 100, "age_s": 4.5},
    "store_failures": 3,
    "disk_free": 0.4,
    "source_tokens": {"captions": 7, "text": 8},
}
OWN = {"run": "run-1", "task": "pretrain", "stage": "pretrain", "recipe": "mm1_tiny"}


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> TrainingMetrics:
    return TrainingMetrics("run-1", "pretrain", CONFIG, clock)


def progress(**changes: Any) -> str:
    return json.dumps({**LINE, **changes}) + "\n"


def scrape(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Series -> labels besides those of the run -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("mm1_"):
                assert {name: sample.labels[name] for name in RUN_LABELS} == OWN
                labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name not in RUN_LABELS))
                values.setdefault(sample.name, {})[labels] = sample.value
    return values


@pytest.fixture
def port(metrics: TrainingMetrics) -> Iterator[int]:
    with exposed(metrics, 0, THIS_MACHINE) as port:
        yield port


def test_a_progress_line_is_scraped_under_the_names_of_the_table(metrics: TrainingMetrics, clock: Clock, port: int) -> None:
    metrics.take(progress())
    clock.now += 10
    values = scrape(port)
    assert set(values) <= {series for metric in TRAINING.values() for series in metric.series}
    single = {name: series[()] for name, series in values.items() if () in series}
    assert single == {
        "mm1_training_step": 120,
        "mm1_training_steps": 400,
        "mm1_training_remaining_seconds": 72.4,
        "mm1_training_step_seconds": 0.21,
        "mm1_training_step_age_seconds": 10,
        "mm1_training_loss": 1.2344,
        "mm1_training_gradient_norm": 0.5312,
        "mm1_training_tokens_per_second": 9120,
        "mm1_training_mfu_ratio": 0.34,
        "mm1_training_goodput_ratio": 0.97,
        "mm1_training_straggler_ratio": 0.14,
        "mm1_training_memory_bytes": 812_345_344,
        "mm1_training_skipped_batches": 1,
        "mm1_training_spikes": 2,
        "mm1_training_store_failures": 3,
        "mm1_training_disk_free_ratio": 0.4,
        "mm1_training_checkpoint_step": 100,
        "mm1_training_checkpoint_age_seconds": 14.5,
        "mm1_training_unread_lines_total": 0,
    }
    assert values["mm1_training_source_loss"] == {(("source", "captions"),): 1.1, (("source", "text"),): 2.0}
    assert values["mm1_training_validation_loss"] == {(("source", "captions"),): 1.301}
    assert values["mm1_training_source_tokens"] == {(("source", "captions"),): 7, (("source", "text"),): 8}
    assert values["mm1_training_phase_ratio"] == {(("phase", "data"),): 0.12, (("phase", "forward"),): 0.3}


def state(metrics: TrainingMetrics) -> str:
    [name] = [sample.labels[0] for sample in metrics.samples()["mm1_training_state"] if sample.value == 1]
    return name


def test_states_from_the_queue_to_the_end(metrics: TrainingMetrics, clock: Clock) -> None:
    seen = [state(metrics)]
    for waiting in (QUEUED, PENDING, ""):
        metrics.waiting(waiting)
        seen.append(state(metrics))
    for line in (progress(), '{"mm1": "pause", "doing": "validating", "limit_s": 7200}\n'):
        metrics.take(line)
        seen.append(state(metrics))
    clock.now += 7000
    seen.append(state(metrics))
    metrics.take('{"mm1": "resume"}\n')
    clock.now += FLOOR_S + 2
    seen.append(state(metrics))
    metrics.relaunched(Outcome.NETWORK)
    seen.append(state(metrics))
    metrics.ended(Outcome.DIVERGED)
    seen.append(state(metrics))
    assert seen == ["starting", "queued", "pending", "starting", "running", "paused", "paused", "stuck", "starting", "ended"]
    assert set(seen) == set(STATES)
    assert [sample.labels for sample in metrics.samples()["mm1_training_outcome"]] == [("diverged",)]


def test_after_a_new_launch_the_last_line_does_not_count_and_the_counters_go_on(metrics: TrainingMetrics) -> None:
    metrics.take(progress())
    for again in (metrics.relaunched, metrics.restarted, metrics.relaunched):
        again(Outcome.OUT_OF_MEMORY)
    samples = metrics.samples()
    assert "mm1_training_loss" not in samples and not samples["mm1_training_step_age_seconds"]
    for name, number in (("mm1_training_relaunches", 2.0), ("mm1_training_restarts", 1.0)):
        counted = {item.labels: item.value for item in samples[name]}
        assert counted.pop(("out of memory",)) == number
        assert len(counted) == len(Outcome) - 2 and not any(counted.values()), "zero from the beginning"


@pytest.mark.parametrize("loss", ["NaN", "Infinity", "-Infinity"])
def test_a_loss_that_is_not_finite_is_a_value(metrics: TrainingMetrics, port: int, loss: str) -> None:
    metrics.take(progress().replace("1.2344", loss))
    value = scrape(port)["mm1_training_loss"][()]
    assert math.isnan(value) if loss == "NaN" else value == float(loss)


def test_a_field_that_is_no_number_costs_only_its_own_metric_and_is_logged_once(
    metrics: TrainingMetrics, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mm1"):
        for _ in range(2):
            metrics.take(progress(loss="high", losses=[1], goodput=True, memory_bytes=10**400, checkpoint=3))
    values = scrape(port)
    gone = {"loss", "source_loss", "goodput_ratio", "memory_bytes", "checkpoint_step", "checkpoint_age_seconds"}
    assert not {f"mm1_training_{name}" for name in gone} & set(values)
    assert values["mm1_training_step"] == {(): 120} and values["mm1_training_unread_lines_total"] == {(): 8}
    assert len(caplog.records) == 1


ODD = (
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "high",
    [],
    [1],
    {},
    {"a": None},
    {"": {}},
    {"step": "x"},
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(sorted(LINE)), st.sampled_from(ODD)),
    st.sets(st.sampled_from(sorted(LINE))),
    st.integers(0, 300),
)
def test_no_line_ends_a_training_or_a_scrape(changes: dict[str, Any], missing: set[str], cut: int) -> None:
    metrics = TrainingMetrics("run-1", "pretrain", CONFIG, Clock())
    line = json.dumps({name: value for name, value in {**LINE, **changes, "mm1": "progress"}.items() if name not in missing})
    for text in (line, line[:cut], line[cut:]):
        metrics.take(text + "\n")
    for name, samples in metrics.samples().items():
        assert name in TRAINING
        assert all(isinstance(sample.value, float) and len(sample.labels) == len(TRAINING[name].labels) for sample in samples)


def test_the_number_of_series_is_bounded(metrics: TrainingMetrics) -> None:
    metrics.take(progress(losses={f"source {number}" * 50: 1.0 for number in range(1000)}))
    losses = metrics.samples()["mm1_training_source_loss"]
    assert len(losses) == MAX_VALUES and all(len(sample.labels[0]) <= 100 for sample in losses)


def test_a_request_to_stop_is_not_taken_for_a_damaged_line(metrics: TrainingMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(line: str) -> None:
        raise Preempted("stopped by SIGTERM")

    monkeypatch.setattr(metrics._watch, "take", stop)
    with pytest.raises(Preempted):
        metrics.take(progress())


def test_a_port_in_use_costs_the_metrics_and_not_the_training(
    metrics: TrainingMetrics, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mm1"), exposed(metrics, port, THIS_MACHINE) as second:
        assert second == 0
    assert f"no metrics: cannot listen on port {port}" in caplog.text


def test_after_the_end_the_port_is_free_again(metrics: TrainingMetrics) -> None:
    with exposed(metrics, 0, THIS_MACHINE) as port:
        scrape(port)
    with exposed(metrics, port, THIS_MACHINE) as again:
        assert again == port


# -- the outcome of a failure waits for a scrape ----------------------------------------------------------------------


def test_a_failure_waits_until_it_is_scraped(metrics: TrainingMetrics) -> None:
    outcomes = []

    def later(port: int) -> None:
        time.sleep(0.2)
        outcomes.append(scrape(port)["mm1_training_outcome"])

    with exposed(metrics, 0, THIS_MACHINE) as port:
        scrape(port)
        metrics.ended(Outcome.DATA)
        thread = threading.Thread(target=later, args=(port,))
        thread.start()
    thread.join(timeout=10)
    assert outcomes == [{(("outcome", "data"),): 1.0}]


@pytest.mark.parametrize(("outcome", "scraped"), [("DONE", True), ("PREEMPTED", True), ("DATA", False), (None, True)])
def test_nothing_else_waits(metrics: TrainingMetrics, outcome: str | None, scraped: bool) -> None:
    started = time.monotonic()
    with exposed(metrics, 0, THIS_MACHINE) as port:
        if scraped:
            scrape(port)
        if outcome:
            metrics.ended(Outcome[outcome])
    assert time.monotonic() - started < 5


def test_a_request_to_stop_ends_the_wait(metrics: TrainingMetrics) -> None:
    def stop(number: int, frame: object) -> None:
        raise Preempted("stopped by SIGTERM")

    previous = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        with exposed(metrics, 0, THIS_MACHINE) as port:
            scrape(port)
            metrics.ended(Outcome.DATA)
            timer.start()
        assert not timer.is_alive(), "the training's own error is the one that counts"
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, previous)
