"""Worker processes with shared memory: order, leases, deaths on both sides, nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from mm1.data.load.workers import Workers
from mm1.errors import DataError
from tests.support.waiting import wait_for_end

SLOT = 1 << 16


class Stamp:
    """Writes the task's number all over the slot."""

    def __init__(self, fail_at=-1, die_at=-1):
        self.fail_at, self.die_at = fail_at, die_at

    def __call__(self, task, slot):
        if task == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == self.fail_at:
            raise DataError(f"task {task} is bad")
        slot.view(np.int64)[:] = task
        return task, os.getpid()

    def prefetch(self, task):
        pass


def started(prepare, tasks, workers=2, **settings):
    made = Workers(prepare, workers, SLOT, 1, **settings)
    return made, made.run(iter(tasks))


def test_results_come_in_order_from_all_workers():
    _, results = started(Stamp(), range(50), workers=3)
    seen = []
    for slot, (number, process) in results:
        assert (slot.view(np.int64) == number).all()
        seen.append((number, process))
    assert [number for number, _ in seen] == list(range(50))
    assert len({process for _, process in seen}) == 3
    assert seen[0][1] == seen[3][1]


def test_a_consumer_that_keeps_everything_loses_nothing():
    _, results = started(Stamp(), range(40), leased=2)
    kept = [slot for slot, _ in results]
    assert [int(slot.view(np.int64)[0]) for slot in kept] == list(range(40))


def test_slots_come_back_when_batches_are_dropped():
    made, results = started(Stamp(), range(200), leased=2)
    for slot, (number, _) in results:
        view = slot.view(np.int64)[5:]  # what holds a part holds the slot
        del slot
        assert view.base is not None and (view == number).all()
        assert made._held <= 1
        del view
    gc.collect()
    assert made._held == 0


def test_an_error_in_a_worker_is_the_readers_error():
    _, results = started(Stamp(fail_at=5), range(20))
    with pytest.raises(DataError, match="task 5 is bad"):
        list(results)
    assert not psutil.Process().children()


def test_a_worker_that_is_killed_is_named_and_nothing_hangs():
    _, results = started(Stamp(die_at=6), range(20))
    with pytest.raises(DataError, match=r"loader worker 0 was killed by SIGKILL.*out of memory"):
        list(results)
    assert not psutil.Process().children()


def test_breaking_off_ends_the_workers():
    _, results = started(Stamp(), count())
    assert len(list(islice(results, 5))) == 5
    results.close()
    assert not psutil.Process().children()


CRASHING = """
import itertools, os, sys
sys.path[:0] = {path!r}
from mm1.data.load.workers import Workers
from tests.unit.data.test_workers import SLOT, Stamp
workers = Workers(Stamp(), 2, SLOT, 1)
for number, (slot, result) in enumerate(workers.run(itertools.count())):
    if number == 20:
        print(*[process.pid for process in workers._processes], flush=True)
    if number > 20 and {idle!r}:
        sys.stdin.read()
"""


@pytest.mark.parametrize("idle", [True, False])
def test_nothing_is_left_of_a_parent_that_was_killed(idle):
    before = set(Path("/dev/shm").iterdir())
    program = CRASHING.format(path=[str(Path.cwd()), *sys.path], idle=idle)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(psutil.pid_exists(worker) for worker in workers)
    parent.kill()
    parent.wait()
    wait_for_end(workers, "the workers, as their parent has ended")
    assert set(Path("/dev/shm").iterdir()) <= before
    parent.stdout.close()
    parent.stdin.close()
