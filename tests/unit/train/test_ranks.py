"""Ranks that wait for each other outside collectives; threads take the part of ranks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch.distributed import HashStore

from mm1.errors import NetworkError
from mm1.train import ranks as ranks_module
from mm1.train.ranks import MIN_WAIT_S, Ranks, storage_limit_s


def together(act: Callable[[Ranks], Any], world_size: int = 3, silent_s: float = 60.0) -> list[Any]:
    """Run a function as each rank, and return results or errors."""
    store = HashStore()

    def one(rank: int) -> Any:
        return act(Ranks(rank, world_size, store, silent_s=silent_s))

    with ThreadPoolExecutor(world_size) as executor:
        futures = [executor.submit(one, rank) for rank in range(world_size)]
        return [future.exception() or future.result() for future in futures]


def test_all_votes_count_at_every_meeting():
    assert (
        together(lambda ranks: [ranks.meet("a"), ranks.meet("b", ok=ranks.rank != 1), ranks.meet("c")])
        == [[True, False, True]] * 3
    )


def test_rank_0_collects_in_order_while_the_others_go_on():
    def act(ranks: Ranks) -> list[Any]:
        if ranks.rank == 0:
            time.sleep(0.05)
        return [*(ranks.collect({"rank": ranks.rank}, "files") for _ in range(5)), ranks.meet("all")]

    first, *others = together(act)
    assert first == [[{"rank": 0}, {"rank": 1}, {"rank": 2}]] * 5 + [True]
    assert others == [[[]] * 5 + [True]] * 2


def test_channels_of_a_run_do_not_mix():
    def act(ranks: Ranks) -> list[Any]:
        other = ranks.channel("checkpoint")
        calls = [lambda: ranks.collect("main", "a"), lambda: other.collect("other", "b")]
        return [call() for call in (calls if ranks.rank else reversed(calls))]

    assert together(act)[0] == [["other"] * 3, ["main"] * 3]


def test_an_error_of_one_rank_ends_the_wait_of_the_others():
    def act(ranks: Ranks) -> None:
        if ranks.rank == 2:
            ranks.fail(OSError("the disk is full"))
        else:
            ranks.meet("writing the checkpoint of step 4")

    first, second, _ = together(act)
    for error in (first, second):
        assert isinstance(error, NetworkError)
        assert str(error) == "writing the checkpoint of step 4: rank 2: OSError: the disk is full"


def test_a_rank_without_signs_of_life_ends_the_wait():
    def act(ranks: Ranks) -> None:
        if ranks.rank != 1:
            ranks.meet("writing")

    first, *_ = together(act, silent_s=0.1)
    assert isinstance(first, NetworkError)
    assert str(first).startswith("writing: rank 1 has given no sign of life for")


def test_a_rank_that_lives_is_waited_for_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(ranks_module, "MIN_WAIT_S", 0.3)
    store = HashStore()
    waits = Ranks(0, 2, store, silent_s=0.1)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(waits.meet, "writing", 100_000)
        number = 0
        while not waiting.done():  # signs of life of rank 1
            store.set("mm1/alive/1", str(number := number + 1))
            time.sleep(0.02)
        error = str(waiting.exception())
    assert error.startswith("writing: rank 1 did not finish within 0 s")
    assert error.endswith("check the speed of the store")


def test_the_limit_grows_with_the_bytes():
    assert storage_limit_s(0) == MIN_WAIT_S
    assert storage_limit_s(60_000_000_000) - MIN_WAIT_S == pytest.approx(60_000)


def test_one_process_waits_for_nobody():
    alone = Ranks(0, 1)
    assert (alone.meet("a"), alone.meet("b", ok=False), alone.collect("x", "c")) == (True, False, ["x"])
