"""Callbacks of a user's own: handed to the builder, called in order, and there again after a divergence."""

import signal

import pytest

from mm1.data.load.loader import MixtureLoader
from mm1.errors import Preempted
from mm1.train import build as build_module
from mm1.train.build import build_run
from mm1.train.callback import Callback
from mm1.train.callbacks.preemption import Preemption
from mm1.train.recovery import train_through
from mm1.train.run_callbacks import FACTORIES
from tests.support.tiny_runs import job_of, small_run


@pytest.fixture(autouse=True)
def signals():
    """Handlers as they were: a run takes over SIGTERM and SIGINT."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


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
    return build_run(job, 0, 1, factories=[*FACTORIES[:2], *own, *FACTORIES[2:]])  # behind the history


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


def test_a_run_that_goes_back_has_its_callbacks_again(alone, mixture, tmp_path, monkeypatch):
    class Poisoned(MixtureLoader):
        def __iter__(self):
            first = self.state_dict()["sequence"] // self.global_batch
            for count, batch in enumerate(super().__iter__()):
                if first + count // 2 == 2:
                    batch["pixel_values"] = batch["pixel_values"].permute(0, 3, 1, 2) * float("nan")
                yield batch

    monkeypatch.setattr(build_module, "MixtureLoader", Poisoned)
    notes = []
    run = build(mixture, tmp_path, notes, "train.steps=3", "train.checkpoint_every=1")
    train_through(run)
    assert notes == [("start", 0), ("step", 1), ("step", 2), ("end", 2), ("start", 2), ("step", 3), ("end", 3)]
    assert not hasattr(run, "loop"), "the run that diverged holds model and optimizer no longer"
