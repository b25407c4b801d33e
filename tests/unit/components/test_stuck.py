"""When a run is called stuck: by its lines and a clock."""

from __future__ import annotations

import json

import pytest

from mm1.train.config import RunConfig
from mm1_components.ranks.stuck import FLOOR_S, StuckWatch
from tests.support.tiny_runs import small_run


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(step: int, step_s: float) -> str:
    return json.dumps({"mm1": "progress", "step": step, "steps": 100, "step_s": step_s}) + "\n"


def pause(limit_s: float) -> str:
    return json.dumps({"mm1": "pause", "doing": "validating", "limit_s": limit_s}) + "\n"


RESUME = '{"mm1": "resume"}\n'
CONFIG = small_run("mm1_tiny", "log.progress_every_s=1")


def after(*lines: str, config: RunConfig = CONFIG, patience: float = 1.0) -> float:
    """Seconds after the last line at which the run is called stuck."""
    clock = Clock()
    watch = StuckWatch(config, patience, clock)
    for line in lines:
        clock.now += 1
        watch.take(line)
    started, limit_s = clock.now, watch.limit_s
    clock.now = started + limit_s
    assert not watch.reason()
    clock.now += 1
    assert watch.reason()
    return limit_s


def test_short_steps_have_the_floor_and_long_ones_a_multiple_of_their_median():
    assert after(progress(1, 0.2)) == FLOOR_S + 1
    assert after(progress(1, 900.0), progress(2, 60.0), progress(3, 62.0)) == 20 * 62 + 1
    assert after(progress(1, 60.0), patience=1.5) == 1.5 * (20 * 60 + 1)


def test_a_limit_of_collectives_or_rare_lines_make_the_floor_longer():
    assert after(progress(1, 1.0), config=small_run("mm1_tiny", "train.collective_timeout_s=1800")) > 3600
    assert after(progress(1, 1.0), config=small_run("mm1_tiny", "log.progress_every_s=7200")) > 7200


def test_start_up_is_not_judged_nor_what_is_no_message():
    clock = Clock()
    watch = StuckWatch(CONFIG, clock=clock)
    for line in ("loading\n", '{"mm1": "progress"\n', '{"mm1": "other"}\n', "[1]\n", '{"mm1": 3}\n'):
        watch.take(line)
    clock.now = 1e9
    assert not watch.reason()


def test_a_pause_has_its_own_limit_and_the_steps_after_it_theirs():
    assert after(progress(1, 1.0), pause(5000.0)) == 5000
    assert after(progress(1, 1.0), pause(5.0)) == FLOOR_S + 1
    assert after(progress(1, 1.0), pause(5000.0), RESUME) == FLOOR_S + 1


def test_ranks_that_start_again_are_not_judged_by_what_was_before():
    clock = Clock()
    watch = StuckWatch(CONFIG, clock=clock)
    watch.take(progress(1, 1.0))
    watch.reset()
    clock.now = 1e9
    assert not watch.reason()


def test_the_reason_names_the_step_and_the_median():
    clock = Clock()
    watch = StuckWatch(CONFIG, clock=clock)
    watch.take(progress(7, 0.5))
    clock.now = 2000
    assert watch.reason() == "stuck after step 7: no step has ended for 2000 s; the median step takes 0.5 s"
    watch.take(pause(100.0))
    clock.now = 4000
    assert watch.reason() == "stuck after step 7: validating has taken 2000 s, expected at most 601 s"
    assert pytest.approx(watch.limit_s) == 601
