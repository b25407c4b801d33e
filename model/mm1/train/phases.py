"""Time by phase of a step: waiting for data, forward, backward, reduction over ranks, optimizer, checkpoint, validation, other.

    with phases("forward"): ...        marks at the beginning and the end: data | forward | backward | reduce | backward | ...

The time between two marks belongs to the innermost phase that is open, so the phases of a step add up to its wall time. On a
GPU, marks are CUDA events, which nothing waits for: the time of a phase is that of its kernels and of the gaps before them, and
appears with the step in which the events are known to have happened. Without a GPU, marks are the host's clock.

Reductions that overlap with the backward pass, and those inside ZeRO's forward pass, are part of these.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

PHASES = ("data", "forward", "backward", "reduce", "optimizer", "checkpoint", "validation", "other")
WHOLE = ("checkpoint", "validation")
"""Phases whose inner phases are not told apart."""
MAX_MARKS = 100_000
"""Number of marks to keep if nobody takes the times."""
CallableT = TypeVar("CallableT", bound=Callable[..., Any])


class Phases:
    """The clock of a process.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._open: list[str] = []
        self._marks: deque[tuple[str, Any]] = deque(maxlen=MAX_MARKS)
        """Time of each mark, and the phase that begins there."""
        self._mark()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time in this context as a phase's."""
        self._open.append(self._open[-1] if self._open and self._open[-1] in WHOLE else name)
        self._mark()
        try:
            yield
        finally:
            self._open.pop()
            self._mark()

    def take(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call, as far as they are known; phases without time are omitted."""
        self._mark()
        seconds = dict.fromkeys(PHASES, 0.0)
        while len(self._marks) > 1:
            (name, begin), (_, end) = self._marks[0], self._marks[1]
            if self._on_gpu and not end.query():
                break
            seconds[name] += begin.elapsed_time(end) / 1000 if self._on_gpu else end - begin
            self._marks.popleft()
        return {name: value for name, value in seconds.items() if value}

    def _mark(self) -> None:
        moment: Any = time.perf_counter()
        if self._on_gpu:
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
        self._marks.append((self._open[-1] if self._open else "other", moment))


def timed(name: str) -> Callable[[CallableT], CallableT]:
    """Decorate a method of an object with ``phases``: its time is that of a phase."""

    def decorate(method: CallableT) -> CallableT:
        @functools.wraps(method)
        def run(self: Any, *arguments: Any, **options: Any) -> Any:
            with self.phases(name):
                return method(self, *arguments, **options)

        return run  # type: ignore[return-value] # functools.wraps keeps the signature

    return decorate
