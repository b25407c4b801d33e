"""Callbacks of a user's own: handed to the builder and called in order."""

import gc
import signal
import weakref

import pytest

from mm1.errors import Preempted
from mm1.train.build import build_run
from mm1.train.callback import Callback
from mm1.train.callbacks.preemption import Preemption
from mm1.train.run_callbacks import FACTORIES, record_history
from tests.support.tiny_runs import job_of, small_run


class Diary(Callback):
    """Notes what it is told."""

    def __init__(self, notes, parts):
        self.notes, self.parts = notes, parts

    def on_start(self, progress):
        self.notes.append(("start", progress.step))

    def on_step(self, progress, result, rate_factor):
        assert self.parts.history.rows[-1]["step"] == progress.step, "the history comes first"
        self.notes.append(("step", progress.step))

    def on_end(self, progress):
        self.notes.append(("end", progress.step))


def build(mixture, tmp_path, notes, *overrides):
    store, data, _ = mixture
    job = job_of(small_run("mm1_tiny", *overrides), store, data, tmp_path / "job", key=tmp_path.name)
    own = [lambda parts: Diary(notes, parts), lambda parts: None]
    behind = FACTORIES.index(record_history) + 1
    return build_run(job, 0, 1, factories=[*FACTORIES[:behind], *own, *FACTORIES[behind:]])


def test_a_callback_is_told_of_start_steps_and_end(alone, mixture, tmp_path):
    notes = []
    run = build(mixture, tmp_path, notes, "train.steps=2")
    assert len(run.loop.callbacks) == len(build_run(run.parts.job, 0, 1).loop.callbacks) + 1
    run.go()
    assert notes == [("start", 0), ("step", 1), ("step", 2), ("end", 2)]


def test_a_callback_is_told_of_a_step_before_the_run_stops(alone, mixture, tmp_path):
    notes = []
    run = build(mixture, tmp_path, notes)
    (preemption,) = (callback for callback in run.loop.callbacks if isinstance(callback, Preemption))
    preemption.signal = signal.SIGTERM
    with pytest.raises(Preempted):
        run.go()
    assert notes == [("start", 0), ("step", 1), ("end", 1)]


def test_the_signal_handlers_keep_no_part_of_a_run_alive(alone, mixture, tmp_path):
    run = build(mixture, tmp_path, [])
    (preemption,) = (callback for callback in run.loop.callbacks if isinstance(callback, Preemption))
    signal.raise_signal(signal.SIGTERM)
    assert preemption.signal == signal.SIGTERM
    references = [weakref.ref(part) for part in (preemption, preemption.checkpoints, run.engine)]
    del run, preemption
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
