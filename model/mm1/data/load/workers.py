"""Worker processes that fill slots of shared memory, which are passed to the consumer without copying.

    task i -> worker i mod n: prepare(task, slot) -> result -> in the order of the tasks -> consumer -> slot is free again

The slots are one anonymous shared mapping, created before the processes are forked. It has no name, so nothing is left behind,
however the processes end. A slot is free again when the array passed to the consumer is garbage collected; a consumer that
keeps too many of them gets copies instead. Workers exit with their parent.
"""

from __future__ import annotations

import gc
import logging
import mmap
import multiprocessing
import os
import queue
import signal
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

import numpy as np

from mm1 import machine
from mm1.errors import DataError, Mm1Error

log = logging.getLogger(__name__)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
LEASED = 4
"""Number of slots that the consumer may hold at once; a trainer holds the micro-batches of one step."""


class Prepare(Protocol):
    """The work of a worker process."""

    def __call__(self, task: Any, slot: Bytes) -> Any:
        """Fill a slot. The return value is sent through a pipe, so it should be small."""

    def prefetch(self, task: Any) -> None:
        """Prefetch data for an upcoming task. Called on a background thread."""


class FilledSlot(NamedTuple):
    """A finished task."""

    slot: Bytes
    """The slot, or a copy of it."""
    result: Any


class WorkerDied(DataError):
    """A worker process exited without reporting an error."""


class Workers:
    """A pool of forked processes with shared slots.

    Args:
        prepare: performs a task.
        num_workers: number of processes.
        slot_bytes: size of a slot.
        ahead: tasks queued per worker, in addition to the current one.
        leased: number of slots that the consumer may hold.
    """

    def __init__(self, prepare: Prepare, num_workers: int, slot_bytes: int, ahead: int, leased: int = LEASED) -> None:
        self.leased = leased
        self._max_waiting = num_workers * (1 + ahead)
        per_worker = 1 + ahead + leased  # unused slots take no memory
        self._memory = mmap.mmap(-1, num_workers * per_worker * slot_bytes)  # anonymous and shared
        # each worker has its own slots, so it maps their pages only once; last in, first out: more likely cached
        self._free = [deque(range(first, first + per_worker)) for first in range(0, num_workers * per_worker, per_worker)]
        self._per_worker = per_worker
        self._slot_bytes = slot_bytes
        self._held = 0
        self._lock = threading.RLock()  # reentrant: garbage collection may return a slot at any point
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        context = multiprocessing.get_context("fork")  # the state of prepare is inherited without pickling
        for _ in range(num_workers):
            parent_end, worker_end = context.Pipe()
            process = context.Process(
                target=self._work, args=(prepare, worker_end, [*self._connections, parent_end]), daemon=True
            )
            process.start()
            worker_end.close()
            self._connections.append(parent_end)
            self._processes.append(process)

    def run(self, tasks: Iterator[Any]) -> Generator[FilledSlot, None, None]:
        """Run tasks and yield results in the order of the tasks. Stops the workers at the end.

        Raises:
            WorkerDied: a worker was killed.
            Mm1Error: raised by a worker.
        """
        waiting: deque[tuple[int, int]] = deque()
        number, more = 0, True
        try:
            while True:
                while more and len(waiting) < self._max_waiting:
                    try:
                        task = next(tasks)
                    except StopIteration:
                        more = False
                        break
                    worker = number % len(self._processes)
                    slot = self._free[worker].pop()
                    self._send(worker, (slot, task))
                    waiting.append((worker, slot))
                    number += 1
                if not waiting:
                    return
                worker, slot = waiting.popleft()
                result = self._receive(worker)
                yield FilledSlot(self._to_consumer(slot), result)
        finally:
            self.close()

    def close(self) -> None:
        """Stop the workers; batches still in use remain valid."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.kill()  # workers have no state to save
        for process in self._processes:
            process.join()

    def _array(self, slot: int) -> Bytes:
        return np.frombuffer(self._memory, np.uint8, self._slot_bytes, slot * self._slot_bytes)

    def _to_consumer(self, slot: int) -> Bytes:
        array = self._array(slot)
        if self._held >= self.leased:
            copy = array.copy()
            self._free[slot // self._per_worker].append(slot)
            return copy
        with self._lock:
            self._held += 1
        weakref.finalize(array, self._release, slot)
        return array

    def _release(self, slot: int) -> None:
        with self._lock:
            self._held -= 1
        self._free[slot // self._per_worker].append(slot)

    def _send(self, worker: int, message: Any) -> None:
        try:
            self._connections[worker].send(message)
        except (BrokenPipeError, ConnectionResetError):
            self._fail(worker)

    def _receive(self, worker: int) -> Any:
        connection, process = self._connections[worker], self._processes[worker]
        ready = wait([connection, process.sentinel])
        if connection not in ready:
            self._fail(worker)
        try:
            result, error = connection.recv()
        except (EOFError, ConnectionResetError):
            self._fail(worker)
        if error is not None:
            raise error
        return result

    def _fail(self, worker: int) -> None:
        process = self._processes[worker]
        process.join(timeout=5)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with code {code}"
        hint = "; it may have run out of memory; use fewer workers" if code == -signal.SIGKILL else ""
        raise WorkerDied(f"loader worker {worker} {how}{hint}")

    # -- in the worker ------------------------------------------------------------------------------------------------

    def _work(self, prepare: Prepare, connection: Connection, others: list[Connection]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # handled by the parent
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's threads do not survive a fork
        gc.freeze()  # collecting inherited objects would copy their pages
        for other in others:  # the parent's ends: if they stayed open, other workers would not notice its death
            other.close()
        tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        machine.exit_with_parent(os.getppid())
        threading.Thread(target=_listen, args=(connection, tasks, prepare), daemon=True).start()
        while (message := tasks.get()) is not None:
            slot, task = message
            try:
                connection.send((prepare(task, self._array(slot)), None))
            except Mm1Error as error:
                connection.send((None, error))
            except BrokenPipeError:
                return
            except BaseException as error:  # every error must be reported to the parent
                connection.send((None, DataError(f"loader worker failed: {type(error).__name__}: {error}")))
                raise


def _listen(connection: Connection, tasks: queue.SimpleQueue[Any], prepare: Prepare) -> None:
    """Read tasks from the pipe as they arrive, so their data can be prefetched."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the parent has closed the pipe or exited
        prepare.prefetch(message[1])
        tasks.put(message)
