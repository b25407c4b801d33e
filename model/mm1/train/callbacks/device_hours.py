"""The device hours of a run: wall time times processes, counted by rank 0 and kept in the store. Torch-free.

The count begins with the process of the trainer, so it includes the start-up, and it covers all starts of the trainer in a run:
relaunches, restarts and retries. It is written every minute, so a trainer that is killed loses at most a minute of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mm1 import machine
from mm1.errors import Mm1Error
from mm1.store.base import Store
from mm1.train import run_files
from mm1.train.callback import Callback

if TYPE_CHECKING:
    from mm1.train.progress import Progress

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""Seconds between two writes of the count."""
HOUR_S = 3600.0


class DeviceHours(Callback):
    """Counts device hours; a process without a GPU counts as a device.

    Args:
        store: store of the count.
        key: name of the work.
        run: name of the run.
        devices: processes of the run.
        limit: device hours that the run may spend; None = no limit.
        rank: this process; only rank 0 counts.
        every_s: seconds between two writes.
        clock: time in s since 1970.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        run: str,
        *,
        devices: int,
        limit: float | None = None,
        rank: int = 0,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.key, self.run = store, key, run
        self.devices, self.limit, self.rank = devices, limit, rank
        self.every_s, self.clock = every_s, clock
        self._started = machine.process_started()
        self._earlier = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def spent(self) -> float:
        """Device hours of the run so far, those of earlier starts included."""
        return self._earlier + self._own

    @property
    def used_up(self) -> bool:
        """Whether the limit is reached; always false on ranks that do not count."""
        return self.rank == 0 and self.limit is not None and self.spent >= self.limit

    def on_start(self, progress: Progress) -> None:
        """Read the count of earlier starts, and start writing."""
        if self.rank:
            return
        try:
            self._earlier = run_files.device_hours(self.store, self.key, self.run, without=self._started)
        except (Mm1Error, OSError) as error:
            log.warning("the device hours of earlier attempts do not count: %s", error)
        self._ended.clear()
        self._thread = threading.Thread(target=self._repeat, name="mm1-device-hours", daemon=True)
        self._thread.start()

    def on_end(self, progress: Progress) -> None:
        """Stop writing, and write the count."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self.keep()

    def keep(self) -> None:
        """Write the count on rank 0; a store that is unreachable for a while must not end the run."""
        if self.rank:
            return
        try:
            run_files.put_device_hours(self.store, self.key, self.run, self._started, self._own)
        except Exception as error:  # noqa: BLE001 - also on a thread, where nobody would see it
            log.warning("cannot store the device hours so far: %s", error)

    @property
    def _own(self) -> float:
        return max(0.0, self.clock() - self._started) * self.devices / HOUR_S

    def _repeat(self) -> None:
        self.keep()
        while not self._ended.wait(self.every_s):
            self.keep()


def used_up_message(limit: float | None) -> str:
    """Return the message about a budget that is used up, with the remedy."""
    return (
        f"the budget of {limit:g} device hours is used up; run the same command with a larger device_hours, or without one, "
        "to continue"
    )
