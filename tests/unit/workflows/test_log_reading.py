"""A log that breaks at any place is read to its end: nothing twice, nothing lost. And patience with a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.errors import ConfigurationError, NetworkError
from mm1_workflows.cluster.following.log import read
from mm1_workflows.cluster.following.patience import Patience
from mm1_workflows.cluster.transport.base import NotFound, Refused

START = datetime(2026, 11, 24, 10, tzinfo=UTC)


class Container:
    """A container that has written its log; the server cuts times to seconds and breaks off as it is told."""

    def __init__(self, entries: list[tuple[datetime, str]], breaks: list[int]) -> None:
        self.entries, self.breaks = entries, list(breaks)
        self.ended = False

    def open(self, since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        return self._open(since)

    @contextmanager
    def _open(self, since: datetime | None) -> Iterator[Iterator[str]]:
        yield self._lines([entry for entry in self.entries if since is None or entry[0] >= since])

    def _lines(self, entries: list[tuple[datetime, str]]) -> Iterator[str]:
        left = self.breaks.pop(0) if self.breaks else None
        for number, (when, text) in enumerate(entries):
            if number == left:
                raise NetworkError("the stream broke")
            yield f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond:06d}000Z {text}"
        if left is None:
            self.ended = True


def delivered(container: Container) -> list[str]:
    said: list[str] = []
    read(container.open, lambda: container.ended, said.append, pause=lambda _: None)
    return said


GAPS = st.sampled_from([0, 0, 1, 400_000, 1_500_000, 30_000_000])
BACK = st.sampled_from([0, 0, 0, 3_000])


@given(
    st.lists(st.tuples(GAPS, BACK, st.sampled_from(["", "a", "b", "step 1", " x  y "])), max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
)
def test_each_line_comes_once_and_in_order(lines: list[tuple[int, int, str]], breaks: list[int]) -> None:
    entries, now = [], START
    for gap, back, text in lines:  # two writers: a line may carry a time a little before that of its neighbour
        now += timedelta(microseconds=gap)
        entries.append((now - timedelta(microseconds=back), text))
    assert delivered(Container(entries, breaks)) == [text for _, text in entries]


def test_a_quiet_log_is_waited_for_however_long() -> None:
    said: list[str] = []
    waited = iter(range(500))

    @contextmanager
    def quiet(since: datetime | None, follow: bool) -> Iterator[Iterator[str]]:
        def lines() -> Iterator[str]:
            yield from ()
            raise NetworkError("nothing for 15 s")

        yield lines() if follow else iter(["2026-11-24T10:00:00Z at last"])

    assert read(quiet, lambda: next(waited) > 400, said.append, pause=lambda _: None)
    assert said == ["at last"]


def test_a_server_that_is_away_for_too_long_is_given_up() -> None:
    def away(since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        raise NetworkError("connection refused")

    with pytest.raises(NetworkError):
        read(away, lambda: False, lambda _: None, budget_s=30, pause=lambda _: None)


def test_a_pod_that_is_gone_has_no_log_and_a_log_that_may_not_be_read_says_so() -> None:
    def gone(since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        raise NotFound("pods not found")

    def forbidden(since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        raise Refused("the account may not read the logs of pods")

    said: list[str] = []
    assert read(gone, lambda: True, said.append) is False and said == []
    read(forbidden, lambda: False, said.append, pause=lambda _: None)
    assert said == ["(no log: the account may not read the logs of pods)"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def asked(failures: list[Exception], *, answered: bool = True, budget_s: float = 300.0) -> tuple[str, list[str]]:
    clock, told = Clock(), []
    patience = Patience(budget_s, tell=told.append, clock=clock, pause=clock.pause)
    patience.answered = answered

    def question() -> str:
        if failures:
            raise failures.pop(0)
        return "answer"

    return patience.ask(question), told


def test_a_server_that_restarts_is_asked_again_and_both_ends_of_the_gap_are_told_once() -> None:
    answer, told = asked(
        [NetworkError("refused"), NetworkError("refused"), NotFound("no such kind yet"), Refused("RBAC not ready")]
    )
    assert answer == "answer" and len(told) == 2 and "the run continues" in told[0]


def test_the_budget_ends_the_patience() -> None:
    with pytest.raises(NetworkError):
        asked([NetworkError("refused") for _ in range(100)])
    with pytest.raises(NotFound):
        asked([NotFound("gone") for _ in range(100)])


def test_what_never_answered_or_is_wrong_for_good_is_not_asked_again() -> None:
    with pytest.raises(NetworkError):
        asked([NetworkError("refused")], answered=False)
    with pytest.raises(ConfigurationError):
        asked([ConfigurationError("invalid")])
