"""The training loop: takes batches, runs steps, calls the callbacks. It does not handle files, signals or output.

loader -> micro-batches of one step -> TrainStep -> StepResult -> callbacks (history, progress, checkpoint, preemption)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from mm1.data.load.collate import Batch
from mm1.train.callback import Callback
from mm1.train.progress import Progress
from mm1.train.step import TrainStep


class Loop:
    """Runs steps until the run is done or a callback ends it.

    Args:
        step: runs one step.
        batches: endless micro-batches of this rank, starting at the current step.
        rate_factor: progress -> multiplier of the peak learning rate in the next step.
        progress: progress of the run.
        skip: numbers of the global batches to skip.
        callbacks: called in this order at each event.
        ready: called with the first batch at hand; waits until all ranks have come as far.
        reseed: seeds the random numbers of a step, given the number of steps before it.
    """

    def __init__(
        self,
        step: TrainStep,
        batches: Iterator[Batch],
        *,
        rate_factor: Callable[[Progress], float],
        progress: Progress,
        callbacks: Sequence[Callback],
        skip: Sequence[int] = (),
        ready: Callable[[], object] = lambda: None,
        reseed: Callable[[int], None] | None = None,
    ) -> None:
        self.step = step
        self.batches = batches
        self.rate_factor = rate_factor
        self.progress = progress
        self.callbacks = callbacks
        self.skip = set(skip)
        self.ready = ready
        self.reseed = reseed
        self.batch = progress.batch
        """Number of the global batch of the last step; the one to skip if the run diverges."""

    def run(self) -> None:
        """Run the remaining steps; an exception in a callback ends the run."""
        try:
            self._run()
        finally:
            for callback in self.callbacks:
                callback.on_end(self.progress)

    def _run(self) -> None:
        for callback in self.callbacks:
            callback.on_start(self.progress)
        first = next(self.batches)
        self.ready()
        self.batches = chain([first], self.batches)
        del first  # a slot of the loader, free again after its step
        accumulation = self.step.engine.batch_plan.accumulation
        while not self.progress.done:
            with self.step.engine.phases("data"):
                micro_batches = list(islice(self.batches, accumulation))
            if self.progress.batch in self.skip:
                self.progress.skipped.append(self.progress.batch)
                continue
            self.batch = self.progress.batch
            factor = self.rate_factor(self.progress)
            if self.reseed is not None:
                self.reseed(self.progress.step)
            result = self.step(micro_batches, factor)
            self.progress.advance(result)
            for callback in self.callbacks:
                callback.on_step(self.progress, result, factor)
