r"""Messages between the ranks that stand in no collective, for everything that waits for storage.

A collective has a short time limit (``train.collective_timeout_s``), so that a hang is noticed. Reading and writing files takes
as long as the store needs. Ranks therefore wait for each other's files through the key-value store of torchrun (``TCPStore``),
which has no limit of its own::

    rank that works: ... files ... -> meet ---\
    other ranks:     meet: who has arrived? ---> all -> next collective
                           |-- a rank gives no sign of life, or reports an error -> NetworkError
                           \-- limit: MIN_WAIT_S + bytes / SLOWEST_BYTES_PER_S    -> NetworkError, with the missing ranks

Every process sends a sign of life every few seconds from a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from mm1.errors import NetworkError

MIN_WAIT_S = 900.0
"""Shortest limit of a wait for another rank's storage; what else may take long is in it, such as a store that restarts."""
SLOWEST_BYTES_PER_S = 1_000_000
"""Slowest transfer that is waited for."""
SIGN_EVERY_S = 2.0
SILENT_S = 90.0
"""A rank without a sign of life for this long is gone, or its machine hangs."""
DUMP_KEY = "mm1/dump"
"""Set by a rank whose collective did not finish; each process then calls its `dump_hooks`, whatever its main thread does."""
dump_hooks: list[Callable[[], None]] = []
FIRST_POLL_S, LAST_POLL_S = 0.001, 0.5
POLL_GROWTH = 1.5


def storage_limit_s(num_bytes: int) -> float:
    """Return the time limit of a wait for a rank that reads or writes this many bytes, in seconds."""
    return MIN_WAIT_S + num_bytes / SLOWEST_BYTES_PER_S


@cache
def key_value_store() -> Store:
    """Connect to the key-value store of torchrun (MASTER_ADDR, MASTER_PORT), and start this process's signs of life."""
    store, rank, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=MIN_WAIT_S))))
    threading.Thread(target=_send_signs, args=(store, rank), daemon=True, name="signs of life").start()
    return store


class Ranks:
    """The ranks of a run. Every rank has an instance, and all make the same calls on it in the same order.

    Args:
        rank: this process.
        world_size: number of processes.
        store: connects them; not used by one process.
        name: of this channel; each thread that calls needs its own.
        silent_s: seconds without a sign of life after which a rank is gone.

    Raises:
        NetworkError: (all methods) a rank failed, is gone, or took too long; the message names it and what it was doing.
    """

    def __init__(
        self, rank: int, world_size: int, store: Store | None = None, name: str = "mm1", silent_s: float = SILENT_S
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self._store, self._name, self._silent_s = store, name, silent_s
        self._number = 0

    @classmethod
    def joined(cls, rank: int, world_size: int) -> Ranks:
        """Create the first channel of a run; torchrun's key-value store connects the ranks."""
        return cls(rank, world_size, key_value_store() if world_size > 1 else None, f"mm1/{next(_run_numbers)}")

    def channel(self, name: str) -> Ranks:
        """Create a channel for another thread."""
        return Ranks(self.rank, self.world_size, self._store, f"{self._name}/{name}", self._silent_s)

    def meet(self, doing: str, num_bytes: int = 0, *, ok: bool = True) -> bool:
        """Wait until all ranks call this.

        Args:
            doing: what the ranks do before they call, for errors: "writing the checkpoint of step 4".
            num_bytes: what the slowest of them reads or writes; sets the limit.
            ok: a vote.

        Returns:
            Whether all votes are true.
        """
        return all(self._arrivals(ok, doing, num_bytes, wait=True).values())

    def collect(self, value: Any, doing: str, num_bytes: int = 0) -> list[Any]:
        """Collect a JSON value of every rank on rank 0, in the order of the ranks; the others do not wait and get nothing."""
        values = self._arrivals(value, doing, num_bytes, wait=self.rank == 0)
        return [values[rank] for rank in range(self.world_size)] if self.rank == 0 else []

    def fail(self, error: BaseException) -> None:
        """Report an error of this rank to the ranks that wait on this channel."""
        if self._store is not None:
            self._store.set(f"{self._name}/error", f"rank {self.rank}: {type(error).__name__}: {error}")

    # -- arrivals: one key per call, to which each rank appends a line --------------------------------------------

    def _arrivals(self, value: Any, doing: str, num_bytes: int, *, wait: bool) -> dict[int, Any]:
        if self._store is None:
            return {self.rank: value}
        self._number += 1
        key = f"{self._name}/{self._number}"
        self._store.append(key, json.dumps([self.rank, value]) + "\n")  # type: ignore[attr-defined]
        arrived = self._wait(self._store, key, doing, num_bytes) if wait else {}
        if wait and self.rank == 0 and self._number > 2:  # nobody reads it: all have left the call before the last
            self._store.delete_key(f"{self._name}/{self._number - 2}")
        return arrived

    def _wait(self, store: Store, key: str, doing: str, num_bytes: int) -> dict[int, Any]:
        started, pause, limit_s = time.monotonic(), FIRST_POLL_S, storage_limit_s(num_bytes)
        signs: dict[int, tuple[bytes, float]] = {}
        checked = started
        while True:
            arrived = {rank: value for rank, value in map(json.loads, store.get(key).splitlines())}
            if len(arrived) == self.world_size:
                return arrived
            if store.check([f"{self._name}/error"]):
                raise NetworkError(f"{doing}: {store.get(f'{self._name}/error').decode()}")
            missing = sorted(set(range(self.world_size)) - set(arrived))
            now = time.monotonic()
            if now - checked >= min(SIGN_EVERY_S, self._silent_s / 2):
                checked = now
                self._check_signs(store, missing, signs, doing)
            if now - started > limit_s:
                raise NetworkError(
                    f"{doing}: {_named(missing)} did not finish within {limit_s:.0f} s "
                    f"({MIN_WAIT_S:.0f} s and {num_bytes / 1e9:.1f} GB at {SLOWEST_BYTES_PER_S / 1e6:g} MB/s): "
                    "check the speed of the store"
                )
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, LAST_POLL_S)

    def _check_signs(self, store: Store, missing: list[int], signs: dict[int, tuple[bytes, float]], doing: str) -> None:
        """Compare the signs of life of the missing ranks with the previous ones."""
        now = time.monotonic()
        for rank in missing:
            sign = store.get(_sign_key(rank)) if store.check([_sign_key(rank)]) else b""
            previous, since = signs.setdefault(rank, (sign, now))
            if sign != previous:
                signs[rank] = (sign, now)
            elif now - since > self._silent_s:
                raise NetworkError(f"{doing}: {_named([rank])} has given no sign of life for {now - since:.0f} s")


def _named(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def _sign_key(rank: int) -> str:
    return f"mm1/alive/{rank}"


def _send_signs(store: Store, rank: int) -> None:
    with contextlib.suppress(DistError):  # the store is gone: the run is over
        for number in itertools.count():
            store.set(_sign_key(rank), str(number))
            if dump_hooks and store.check([DUMP_KEY]):
                dump_hooks.pop()()
            time.sleep(SIGN_EVERY_S)


_run_numbers = itertools.count()
"""Numbers of the runs of this process, equal on all ranks."""
