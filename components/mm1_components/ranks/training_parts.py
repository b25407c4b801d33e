"""Spans of the parts of a training: its start-up to the first progress line, and the pauses that rank 0 announces."""

from __future__ import annotations

import json
import time

from mm1_components.wrapper import traces

START_UP = "start-up"
"""Pending pods, code, model, data and the first batch."""


class TrainingParts:
    """Reads the lines of rank 0 (:mod:`mm1.train.pauses`); other lines, and all without a collector, change nothing."""

    def __init__(self) -> None:
        self.is_on = traces.is_on()
        self.doing, self.since = START_UP, time.time_ns()
        """What the ranks do between steps; empty while steps go on."""

    def take(self, line: str) -> None:
        """Read a line."""
        if not self.is_on:
            return
        if line.startswith('{"mm1": "pause"'):
            self._end()
            self.doing, self.since = _doing(line), time.time_ns()
        elif line.startswith(('{"mm1": "resume"', '{"mm1": "progress"')):
            self._end()

    def _end(self) -> None:
        if self.doing:
            traces.add_part(self.doing, self.since)
        self.doing = ""


def _doing(line: str) -> str:
    try:
        return str(json.loads(line)["doing"])
    except (ValueError, KeyError, TypeError):
        return "pause"
