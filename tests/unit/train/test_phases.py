"""Time by phase, the straggler, and the goodput over starts."""

import json
import time
from typing import ClassVar

import pytest
import torch

from mm1.store.local import LocalStore
from mm1.train import phases as phases_module
from mm1.train import run_files
from mm1.train.build import build_run
from mm1.train.callbacks.metrics import Metrics
from mm1.train.callbacks.timing import find_straggler
from mm1.train.goodput import wall_time
from mm1.train.phases import Phases, timed
from mm1.train.progress import Progress
from tests.support.tiny_runs import job_of, small_run
from tests.unit.train.test_run_metrics import RESULT


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(phases_module.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_phases_add_up_and_inner_ones_are_not_counted_twice(clock):
    phases = Phases(torch.device("cpu"))
    clock.now = 1.0
    with phases("backward"):
        clock.now = 3.0
        with phases("reduce"):
            clock.now = 7.0
        clock.now = 8.0
    with phases("validation"):
        clock.now = 9.0
        with phases("forward"):
            clock.now = 11.0
    clock.now = 11.5
    assert phases.take() == {"backward": 3.0, "reduce": 4.0, "validation": 3.0, "other": 1.5}
    clock.now = 12.0
    assert phases.take() == {"other": 0.5}


def test_an_error_ends_a_phase(clock):
    class Engine:
        phases = Phases(torch.device("cpu"))

        @timed("forward")
        def fail(self):
            clock.now = 2.0
            raise ValueError

    with pytest.raises(ValueError):
        Engine().fail()
    clock.now = 5.0
    assert Engine.phases.take() == {"forward": 2.0, "other": 3.0}


def test_on_a_gpu_nothing_waits_and_late_events_count_later(monkeypatch):
    class Event:
        made: ClassVar[list] = []

        def __init__(self, enable_timing):
            self.at, self.done = float(len(self.made)), True
            self.made.append(self)

        def record(self):
            pass

        def query(self):
            return self.done

        def elapsed_time(self, end):
            assert self.done and end.done, "would be an error of CUDA"
            return 1000 * (end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    phases = Phases(torch.device("cuda"))
    with phases("forward"):
        pass
    with phases("optimizer"):
        pass
    Event.made[-1].done = False  # the end of the optimizer
    assert phases.take() == {"forward": 1.0, "other": 2.0}
    Event.made[4].done = True
    assert phases.take()["optimizer"] == 1.0


@pytest.mark.parametrize(
    ("seconds", "rank", "slower"), [([1.0, 1.0, 1.5, 1.0], 2, 0.5), ([2.0, 2.0], 0, 0.0), ([0.0, 0.0], 0, 0.0)]
)
def test_the_straggler_is_compared_with_the_median(seconds, rank, slower):
    assert find_straggler(seconds)[:2] == (rank, pytest.approx(slower))


def test_wall_time_is_itemised_and_what_is_not_explained_was_away():
    rows = [{"seconds": 2.0, "phase/checkpoint": 0.5, "phase/validation": 0.5}, {"seconds": 3.0}]
    starts = [{"started": 0.0, "ready": 1.0, "lost_s": 0.0}, {"started": 10.0, "ready": 12.0, "lost_s": 1.5}]
    time = wall_time(rows, starts).until(20.0)
    assert time == {
        "goodput": 0.2,
        "wall_s": 20.0,
        "steps_s": 4.0,
        "startup_s": 3.0,
        "checkpoint_s": 0.5,
        "validation_s": 0.5,
        "lost_s": 1.5,
        "away_s": 10.5,
        "starts": 2,
    }


def test_goodput_is_over_all_starts(tmp_path):
    store = LocalStore(tmp_path / "store")

    def start(folder, step):
        (tmp_path / folder).mkdir()
        metrics = Metrics(tmp_path / folder, store, "key", every=2, peak_lr=1e-3)
        progress = Progress(10, step=step)
        metrics.on_start(progress)
        return metrics, progress

    before = time.time()
    metrics, progress = start("one", 0)
    for _ in range(5):
        progress.advance(RESULT)
        metrics.on_step(progress, RESULT, 1.0)
    metrics.on_end(progress)
    lost = sum(json.loads(line)["seconds"] for line in list(run_files.rows(store, "key"))[2:])
    metrics, progress = start("two", 2)
    assert metrics.wall.starts == 2 and metrics.wall.lost_s == pytest.approx(lost)
    first, second = run_files.starts(store, "key")
    assert first["started"] <= before <= first["ready"] <= second["ready"] and second["lost_s"] == pytest.approx(lost)
    assert metrics.wall.steps_s > 0 and 0 <= metrics.goodput() < 1
    assert run_files.take(store, "key", tmp_path / "rows") == {}, "no blobs of starts"


@pytest.mark.parametrize("recipe", ["mm1_tiny", "mm1_tiny_moe"])
def test_rows_have_phases_that_add_up_and_tokens_by_source(alone, mixture, tmp_path, recipe):
    store, data, mix = mixture
    config = small_run(recipe, "train.steps=6", "train.checkpoint_every=2")
    key = f"{tmp_path.name}-{recipe}"
    result = build_run(job_of(config, store, data, tmp_path, key=key), 0, 1).go()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        phases = {name: value for name, value in row.items() if name.startswith("phase/")}
        assert {"phase/forward", "phase/backward", "phase/reduce", "phase/optimizer", "phase/data"} <= phases.keys()
        assert sum(phases.values()) == pytest.approx(row["seconds"], rel=0.2, abs=0.01)
        assert sum(value for name, value in row.items() if name.startswith("tokens/")) == row["tokens"]
        assert "slowest_rank" not in row, "one rank waits for nobody"
    assert [row["step"] for row in rows if "phase/checkpoint" in row] == [3, 5], "after the steps that were saved"
    sums = {source.name: sum(row.get(f"tokens/{source.name}", 0) for row in rows) for source in mix.sources}
    assert {name: result.source_tokens.get(name, 0) for name in sums} == sums
