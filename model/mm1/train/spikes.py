"""Finite spikes: a step whose loss or gradient norm is far above the recent steps does not update the weights. Torch-free.

The band of a figure ends at mean + k standard deviations of its last N steps (OLMo-core's rule and defaults: 128 and
6); only its upper end counts. Skipped steps count for the band as well, each at most twice as far above the mean as its
end. So a lasting change, such as harder data, or a batch that is often an outlier, widens the band within a few steps, while
one huge value hardly does. Only values that keep growing stay above it.

A skipped step has no effect on weights and optimizer state. It counts as a step of the schedule, and its batch is not repeated.
All ranks decide equally, because they see the same reduced figures.

The band follows from the run's history, which every checkpoint has, so a resumed run decides as the whole one does.

    history rows -> SpikeBand -> admits(loss, norm) for each step -> True: update; False: skip; DivergedError: too many skipped
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from mm1.errors import DivergedError
from mm1.train.config import OptimConfig

log = logging.getLogger(__name__)

SMALLEST_WIDTH = 0.05
"""The band ends at least this share of the mean above it: steps that hardly differ do not make a small change a spike."""


class SpikeBand:
    """Loss and gradient norm of the last steps.

    Args:
        config: window, width and limit.
        rows: history of the run so far, with ``loss``, ``grad_norm`` and ``applied``.
        with_norm: False if the norm is not that of a gradient.
    """

    def __init__(self, config: OptimConfig, rows: Iterable[Mapping[str, Any]] = (), *, with_norm: bool = True) -> None:
        self.config, self.with_norm = config, with_norm
        self._recent: deque[tuple[float, float, bool]] = deque(maxlen=config.spike_window)
        """Loss, norm, and whether the weights were updated."""
        for row in rows:
            self._add(row["loss"], row["grad_norm"], applied=bool(row["applied"]))

    def admits(self, loss: float, norm: float) -> bool:
        """Decide on a step and remember it.

        Args:
            loss: mean loss of the step; finite.
            norm: norm of its whole gradient; finite.

        Returns:
            Whether the step may update the weights.

        Raises:
            DivergedError: more than ``spike_limit`` of the last ``spike_window`` steps are spikes.
        """
        trouble = self._trouble("loss", loss, 0) or (self._trouble("gradient's norm", norm, 1) if self.with_norm else "")
        self._add(loss, norm, applied=not trouble)
        if trouble:
            log.info("the step does not update the weights: %s", trouble)
        skipped, config = sum(not applied for _, _, applied in self._recent), self.config
        if skipped > config.spike_limit:
            raise DivergedError(
                f"{skipped} of the last {len(self._recent)} steps are spikes (at the last one, {trouble}), more than "
                f"optim.spike_limit={config.spike_limit}: a smaller optim.lr or optim.clip may help; a larger "
                "optim.spike_sigmas admits larger spikes"
            )
        return not trouble

    def _add(self, loss: float, norm: float, *, applied: bool) -> None:
        if not applied:
            loss, norm = (min(value, self._end(column, 2)) for column, value in enumerate((loss, norm)))
        self._recent.append((loss, norm, applied))

    def _trouble(self, name: str, value: float, column: int) -> str:
        """Describe a value above the band; empty for a value in it."""
        end = self._end(column, 1)
        return f"the {name} is {value:.4g}, above {end:.4g}" if value > end else ""

    def _end(self, column: int, widths: int) -> float:
        """Return the value that is some widths of the band above its mean; infinity before the window is full."""
        if not self.config.spike_window or len(self._recent) < self.config.spike_window:
            return math.inf
        values = [row[column] for row in self._recent]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((other - mean) ** 2 for other in values) / len(values))
        return mean + widths * max(self.config.spike_sigmas * deviation, SMALLEST_WIDTH * abs(mean))
