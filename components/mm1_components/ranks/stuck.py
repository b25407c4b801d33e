"""Decision whether a training run is stuck: no step has ended for much longer than a step takes. Pure: reads lines and a clock.

    {"mm1": "progress", "step": 120, "step_s": 0.21, ...}          a step has ended; seconds per step since the previous line
    {"mm1": "pause", "doing": "writing a checkpoint", "limit_s": 960}   no step ends for at most this long
    {"mm1": "resume"}                                             steps go on

Start-up is not judged: the watch begins with the first of these lines.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mm1.train.config import RunConfig

MEDIANS = 20.0
"""A step that takes this many median steps does not end any more."""
FLOOR_S = 600.0
"""Shortest limit in seconds; steps also wait for data."""
STEPS_KEPT = 101
OUTER_PATIENCE = 1.5
"""Patience of a watch around another one, which has the ranks at hand and can write their stacks."""


class StuckWatch:
    """Watches the lines of one launch of the ranks.

    Args:
        config: of the run.
        patience: multiplier of the limit.
        clock: seconds, monotonic.
    """

    def __init__(self, config: RunConfig, patience: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience, self.clock = patience, clock
        self.floor_s = max(FLOOR_S, 2 * config.train.collective_timeout_s)  # a collective's own limit comes first
        self.every_s = config.log.progress_every_s
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: the ranks start again."""
        self._seconds: deque[float] = deque(maxlen=STEPS_KEPT)
        self._since: float | None = None
        self._step, self._pause_s = 0, 0.0
        self.doing = ""
        """What the announced pause is for; empty while steps go on."""

    def take(self, line: str) -> None:
        """Read a line of the ranks' output; others than the above change nothing."""
        message = _message(line)
        kind = message.get("mm1")
        if kind == "progress":
            self._step = int(message["step"])
            self._seconds.append(float(message["step_s"]))
        elif kind == "pause":
            self._pause_s = float(message["limit_s"])
        elif kind != "resume":
            return
        self.doing = str(message["doing"]) if kind == "pause" else ""
        self._since = self.clock()

    @property
    def waited_s(self) -> float | None:
        """Seconds since the last line; None before the first one."""
        return None if self._since is None else self.clock() - self._since

    @property
    def limit_s(self) -> float:
        """Seconds without a line after which the run is stuck."""
        median = statistics.median(self._seconds) if self._seconds else 0.0
        usual = self.every_s + max(self.floor_s, MEDIANS * median)
        return self.patience * (max(usual, self._pause_s) if self.doing else usual)

    def reason(self) -> str:
        """Return why the run is stuck; empty while it is not."""
        if (waited := self.waited_s) is None or waited <= self.limit_s:
            return ""
        if self.doing:
            return (
                f"stuck after step {self._step}: {self.doing} has taken {waited:.0f} s, expected at most {self.limit_s:.0f} s"
            )
        median = f"; the median step takes {statistics.median(self._seconds):.3g} s" if self._seconds else ""
        return f"stuck after step {self._step}: no step has ended for {waited:.0f} s{median}"


def _message(line: str) -> dict[str, Any]:
    if not line.startswith('{"mm1": '):
        return {}
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}
