"""What a run shows: metrics.jsonl over resumes, progress lines, MFU, profiles."""

import gzip
import io
import json
import logging
import signal

import pytest
import torch

from mm1.errors import ConfigurationError, NetworkError, Preempted
from mm1.store.local import LocalStore
from mm1.train import run_files as kept
from mm1.train.build import build_run
from mm1.train.callbacks.metrics import Devices, Metrics
from mm1.train.callbacks.profiler import Profiler
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.empty_model import Trained
from mm1.train.flops import Work, count_flops
from mm1.train.progress import Progress
from mm1.train.step import StepResult
from tests.support.tiny_model import tiny_config
from tests.support.tiny_runs import job_of, small_run

RESULT = StepResult(
    loss=1.5,
    source_losses={"text": 1.5},
    grad_norm=0.5,
    predicted_tokens=40,
    tokens=90,
    positions=100,
    images=2,
    pairs=900,
    router={"entropy": 0.9},
)


@pytest.fixture
def devices():
    return Devices(number=2, peak=1e9, flops=count_flops(tiny_config()))


def build(config, mixture, folder, key):
    return build_run(job_of(config, mixture[0], mixture[1], folder, key=key), 0, 1)


def rows_of(lines):
    return [json.loads(line) for line in lines]


def started(tmp_path, devices, every=2, step=0):
    store = LocalStore(tmp_path / "store")
    metrics = Metrics(tmp_path, store, "key", every=every, peak_lr=1e-3, devices=devices)
    progress = Progress(10, step=step)
    metrics.on_start(progress)
    return store, metrics, progress


def do_steps(metrics, progress, number):
    for _ in range(number):
        progress.advance(RESULT)
        metrics.on_step(progress, RESULT, 0.5)


def test_a_row_a_step_and_the_same_again_after_a_resume(alone, mixture, tmp_path):
    store = mixture[0]
    config, key = small_run("mm1_tiny_moe", "train.steps=6", "train.checkpoint_every=2"), f"{tmp_path.name}-metrics"
    first = build(config, mixture, tmp_path / "one", key)
    first.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        first.go()
    assert [row["step"] for row in rows_of(kept.rows(store, key))] == [1]
    second = build(config, mixture, tmp_path / "two", key)
    history = second.history
    second.go()
    rows = rows_of((tmp_path / "two" / "metrics.jsonl").read_text().splitlines())
    assert rows == rows_of(kept.rows(store, key))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, same in zip(rows, history.rows, strict=True):
        told = {name: value for name, value in same.items() if name != "positions" and value is not None}
        assert {name: row[name] for name in told} == told
        assert row["padding"] == pytest.approx(1 - same["tokens"] / same["positions"])
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"], rel=1e-3)
        assert row["memory_bytes"] > 50e6
        assert "mfu" not in row, "nothing is known of this processor's peak"


def test_rows_after_the_checkpoint_are_cut(tmp_path, devices):
    _, metrics, progress = started(tmp_path, devices)
    do_steps(metrics, progress, 7)
    store, again, progress = started(tmp_path, devices, step=5)  # the part in the store holds 5 and 6
    assert [row["step"] for row in rows_of(kept.rows(store, "key"))] == [1, 2, 3, 4, 5]
    do_steps(again, progress, 2)
    again.on_end(progress)
    found = tmp_path / "found.jsonl"
    assert kept.take(store, "key", found) == {}
    assert [row["step"] for row in rows_of(found.read_text().splitlines())] == [1, 2, 3, 4, 5, 6, 7]
    assert found.read_text() == again.path.read_text()
    _, metrics, _ = started(tmp_path, devices, step=0)  # from the beginning again
    assert list(kept.rows(store, "key")) == []
    assert metrics.path.read_text() == ""


def test_a_run_that_fails_leaves_its_rows(alone, mixture, tmp_path):
    config, key = small_run("mm1_tiny", "train.steps=8", "train.checkpoint_every=8"), f"{tmp_path.name}-fails"
    run = build(config, mixture, tmp_path, key)
    run.loop.rate_factor = lambda at: 1 / (3 - at.step)
    with pytest.raises(ZeroDivisionError):
        run.go()
    assert [row["step"] for row in rows_of(kept.rows(mixture[0], key))] == [1, 2, 3]


def test_lines_reach_the_file_before_anybody_closes_it(tmp_path, devices):
    _, metrics, progress = started(tmp_path, devices)
    do_steps(metrics, progress, 3)
    assert [row["step"] for row in rows_of(metrics.path.read_text().splitlines())] == [1, 2, 3]


def test_a_store_that_is_away_costs_no_row(tmp_path, devices, monkeypatch, caplog):
    store, metrics, progress = started(tmp_path, devices)

    def away(key, data):
        raise NetworkError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", away)
        do_steps(metrics, progress, 3)
    assert "cannot store the rows up to step 2" in caplog.text
    do_steps(metrics, progress, 1)
    assert [row["step"] for row in rows_of(kept.rows(store, "key"))] == [1, 2, 3, 4]


def test_mfu_is_of_the_work_that_was_done(devices):
    flops = devices.flops.step(Work(tokens=90, pairs=900, predicted=40, images=2)).total
    assert devices.mfu(RESULT, 0.5) == pytest.approx(flops / 0.5 / 2 / 1e9)


def test_a_model_is_counted_where_the_devices_peak_is_known(monkeypatch, caplog):
    config = tiny_config(moe=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Devices.current(config, number=4) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert Devices.current(config, number=4) == Devices(number=4, peak=989e12, flops=count_flops(config))
    tower = Devices.current(config, 4, Trained(("vision",)))
    assert tower is not None and tower.flops == count_flops(config, Trained(("vision",)))
    config.text_config.num_attention_heads = 3  # no multiple of the key-value heads: a decoder that does not run like this
    assert Devices.current(config, number=4) is None
    assert "no MFU: cannot count the model's FLOPs" in caplog.text


def test_mfu_is_of_what_the_run_trains(alone, mixture, tmp_path, monkeypatch):
    arguments = []
    monkeypatch.setattr(Devices, "current", lambda *given: arguments.append(given))
    run = build(small_run("mm1_tiny", "train.frozen=vision"), mixture, tmp_path, f"{tmp_path.name}-frozen")
    assert arguments == [(run.parts.model.config, 1, Trained(("vision",)))]


def test_pairs_of_a_step_are_those_of_its_documents(alone, mixture, tmp_path):
    run = build(small_run("mm1_tiny"), mixture, tmp_path, f"{tmp_path.name}-pairs")
    batches = [next(run.loop.batches) for _ in range(2)]
    expected = 0
    for batch in batches:
        for row in batch["document_ids"].tolist():
            expected += sum(row.count(number) * (row.count(number) + 1) // 2 for number in set(row) - {0})
    assert run.loop.step(batches, 1.0).pairs == expected


def test_progress_lines_tell_what_goes_on(tmp_path, devices):
    _, metrics, progress = started(tmp_path, devices)
    sink = io.StringIO()
    lines = ProgressLines(1e-9, metrics, sink)
    lines.on_start(progress)
    progress.skipped.append(0)
    for _ in range(2):
        progress.advance(RESULT)
        metrics.on_step(progress, RESULT, 0.5)
        lines.on_step(progress, RESULT, 0.5)
    line = rows_of(sink.getvalue().splitlines())[-1]
    assert (line["step"], line["steps"], line["losses"], line["grad_norm"], line["skipped"]) == (2, 10, {"text": 1.5}, 0.5, 1)
    assert line["tokens_per_s"] == pytest.approx(metrics.row["tokens_per_s"], rel=0.01)
    assert line["mfu"] == pytest.approx(metrics.row["mfu"], abs=1e-4)
    assert line["eta_s"] == pytest.approx(4 * lines.seconds, abs=0.06)
    assert line["memory_bytes"] > 50e6 and 0 < line["disk_free"] < 1 and line["store_failures"] >= 0
    assert line["checkpoint"]["step"] == 0 and 0 <= line["checkpoint"]["age_s"] < 60
    other = ProgressLines(1e-9, None, silent := io.StringIO())
    other.on_start(progress)
    other.on_step(progress, RESULT, 0.5)
    assert (silent.getvalue(), other.tokens) == ("", 90)


def test_a_profile_is_a_trace_of_the_steps_that_were_asked_for(alone, mixture, tmp_path, caplog):
    key = f"{tmp_path.name}-profile"
    with caplog.at_level(logging.INFO):
        build(small_run("mm1_tiny", "train.steps=3", "train.profile=2"), mixture, tmp_path, key).go()
    assert "profile of steps 2-2" in caplog.text
    assert "Self CPU %" in caplog.text
    files = kept.take(mixture[0], key, tmp_path / "m.jsonl")
    trace = json.loads(gzip.decompress(mixture[0].get_bytes(files["trace.json.gz"])))
    updates = [event for event in trace["traceEvents"] if event.get("name") == "Optimizer.step#MuonWithAuxAdam.step"]
    assert len(updates) == 1


@pytest.mark.parametrize(("first", "last", "found"), [(2, 99, "steps 2-3"), (1, 1, "steps 1-1"), (7, 8, "")])
def test_a_profile_ends_with_the_run(tmp_path, caplog, first, last, found):
    progress = Progress(3)
    profiler = Profiler((first, last), tmp_path, LocalStore(tmp_path / "store"), "key")
    with caplog.at_level(logging.INFO):
        profiler.on_start(progress)
        for _ in range(3):
            torch.ones(3).sum()
            progress.advance(RESULT)
            profiler.on_step(progress, RESULT, 1.0)
        profiler.on_end(progress)
    assert caplog.text.count("profile of") == bool(found)
    assert found in caplog.text
    assert (tmp_path / "trace.json.gz").is_file() == bool(found)


def test_a_profile_of_steps_that_are_over_is_told_of(tmp_path, caplog):
    Profiler((2, 3), tmp_path, LocalStore(tmp_path / "store"), "key").on_start(Progress(9, step=3))
    assert "no profile: steps 2-3 are already done" in caplog.text


@pytest.mark.parametrize("steps", ["3-2", "0-4", "ten"])
def test_a_profile_of_no_steps_is_refused(steps):
    with pytest.raises(ConfigurationError, match=r"train\.profile"):
        small_run("mm1_tiny", f"train.profile={steps}")
