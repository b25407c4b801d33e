"""Answers of the engine for the event loop: submitted together, followed step by step, given up when nobody reads them.

    asks -> Answers.submit -> Pending -> steps() | last_steps() -> closed

The engine's thread calls back after each token. A callback stores the newest step and wakes the event loop, which takes the
newest one when it gets to it: a slow reader skips steps, and nothing piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from mm1.generation.engine import Ask, Closed, Engine, Overloaded, Step, Ticket
from mm1.serve.api.errors import RETRY_AFTER_S, ApiError, as_api_error

log = logging.getLogger(__name__)


class Pending:
    """The answers of one request.

    Args:
        count: number of answers.
        streams: whether each step is of interest, or only the last one of each answer.
        on_close: called once, when the answers are complete or given up.
    """

    def __init__(self, count: int, streams: bool, on_close: Callable[[Pending], None]) -> None:
        self.started = time.monotonic()
        self.first_token: float | None = None
        """Time of the first token of any of the answers."""
        self.steps_so_far: list[Step | None] = [None] * count
        self._error: Exception | None = None
        self._streams = streams
        self._on_close: Callable[[Pending], None] | None = on_close
        self._tickets: list[Ticket] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._is_notified = False

    def add(self, ticket: Ticket) -> None:
        """Add the ticket of a submitted ask."""
        self._tickets.append(ticket)

    def take(self, number: int, step: Step | Exception) -> None:
        """Store the newest step of an answer. Called from the engine's thread."""
        if isinstance(step, Exception):
            self._error = self._error or step
        else:
            self.first_token = self.first_token or time.monotonic()
            self.steps_so_far[number] = step
            if not (self._streams or step.finish_reason):
                return
        if not self._is_notified:
            self._is_notified = True
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._notify)

    def fail(self, error: ApiError) -> None:
        """End the answers with an error."""
        self._error = self._error or error
        self._changed.set()

    def close(self) -> None:
        """Give up the answers that are not complete; may be called again."""
        for ticket in self._tickets:
            ticket.cancel()
        on_close, self._on_close = self._on_close, None
        if on_close:
            on_close(self)

    async def steps(self) -> AsyncIterator[tuple[int, Step]]:
        """Yield number and newest step of each answer, until all have a finish reason.

        Raises:
            ApiError: an answer failed.
        """
        yielded: list[Step | None] = [None] * len(self.steps_so_far)
        while not all(step and step.finish_reason for step in yielded):
            await self._change()
            for number, step in enumerate(self.steps_so_far):
                if step is not None and step is not yielded[number]:
                    yielded[number] = step
                    yield number, step

    async def last_steps(self) -> list[Step]:
        """Wait for the answers.

        Raises:
            ApiError: an answer failed.
        """
        while True:
            steps = [step for step in self.steps_so_far if step and step.finish_reason]
            if len(steps) == len(self.steps_so_far):
                return steps
            await self._change()

    def _notify(self) -> None:
        self._is_notified = False
        self._changed.set()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            error = as_api_error(self._error)
            if error.status >= 500 and error is not self._error:
                log.error("an answer failed", exc_info=self._error)
            raise error


class Answers:
    """All answers that are being made. Belongs to one event loop.

    Args:
        engine: generates them.
        on_close: called with the answers of each request when they are complete or given up.
    """

    def __init__(self, engine: Engine, on_close: Callable[[Pending], None]) -> None:
        self.engine = engine
        self.is_draining = False
        """Whether the server shuts down: new requests are refused."""
        self._on_close = on_close
        self._open: set[Pending] = set()

    @property
    def num_open(self) -> int:
        """Number of requests that wait for their answers."""
        return len(self._open)

    @property
    def is_alive(self) -> bool:
        """Whether the engine can answer."""
        return self.engine.is_alive

    def check_open(self) -> None:
        """Refuse new requests while the server shuts down.

        Raises:
            ApiError: it does.
        """
        if self.is_draining:
            raise ApiError("the server is shutting down: try again", status=503, retry_after_s=RETRY_AFTER_S)

    def submit(self, asks: Sequence[Ask], streams: bool) -> Pending:
        """Queue the asks of a request: all or none.

        Raises:
            ApiError: too many asks are waiting, or the server shuts down.
        """
        self.check_open()
        pending = Pending(len(asks), streams, self._close)
        self._open.add(pending)
        try:
            for number, ask in enumerate(asks):
                pending.add(self.engine.submit(ask, partial(pending.take, number)))
        except Overloaded as error:
            pending.close()
            raise ApiError(str(error), status=429, retry_after_s=error.retry_after_s) from None
        except Closed as error:
            pending.close()
            raise as_api_error(error) from None
        except BaseException:
            pending.close()
            raise
        return pending

    def fail_all(self) -> None:
        """End all answers, because the time for shutting down is over."""
        for pending in list(self._open):
            pending.fail(ApiError("the server shut down before the answer was complete", status=503, retry_after_s=1))

    def _close(self, pending: Pending) -> None:
        self._open.discard(pending)
        self._on_close(pending)
