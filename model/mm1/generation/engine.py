"""Answers of many askers at once, by one thread that owns the model.

    submit(ask) -> waiting -> answered token by token -> on_step(Step) after each token

Asks come from any thread; `on_step` is called from the engine's thread and must be quick.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Condition, Event, Thread

from mm1.generation.asks import Ask, EngineStats, Overloaded, Step, TokenLogprob
from mm1.generation.config import EngineSettings
from mm1.generation.generator import Generator

__all__ = ["Ask", "Engine", "EngineStats", "OnStep", "Overloaded", "Step", "Ticket", "TokenLogprob"]

log = logging.getLogger(__name__)

OnStep = Callable[[Step | Exception], None]
"""Called after each token with the answer so far; an exception ends the answer."""


@dataclass(eq=False)
class Ticket:
    """A submitted ask."""

    ask: Ask
    num_prompt_tokens: int
    """Tokens of the prompt, including those of images."""
    on_step: OnStep
    _cancelled: Event = field(default_factory=Event)

    def cancel(self) -> None:
        """Give up the answer before its next token; nothing happens if it is complete."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the answer was given up."""
        return self._cancelled.is_set()


class Engine:
    """Answers asks with one model.

    Args:
        generator: the model; no other thread may use it while the engine is open.
        settings: limits of the queue and of the batch.
    """

    def __init__(self, generator: Generator, settings: EngineSettings | None = None) -> None:
        self.generator = generator
        self.settings = settings or EngineSettings()
        self._waiting: deque[Ticket] = deque()
        self._wake = Condition()
        self._closed = False
        self._stats = EngineStats(waiting=0, running=0)
        self._thread = Thread(target=self._run, name="mm1-engine", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask, on_step: OnStep) -> Ticket:
        """Queue an ask.

        Raises:
            ConfigurationError: the prompt does not fit the model's context.
            Overloaded: too many asks are waiting.
        """
        encoder = self.generator.encoder
        num_tokens = sum(len(part.tokens) for part in encoder.encode_request(ask.request))
        encoder.check_length(num_tokens, ask.max_new_tokens)
        ticket = Ticket(ask, num_tokens, on_step)
        with self._wake:
            if len(self._waiting) >= self.settings.max_waiting:
                raise Overloaded(1.0)
            self._waiting.append(ticket)
            self._wake.notify()
        return ticket

    def stats(self) -> EngineStats:
        """Return the state and the counters."""
        return replace(self._stats, waiting=len(self._waiting))

    def close(self) -> None:
        """Stop; asks that are not complete end with an exception."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    break
                ticket = self._waiting.popleft()
            self._count(running=1)
            try:
                self._answer(ticket)
            except Exception as error:  # noqa: BLE001  the engine goes on with the next ask
                self._count(failed=1)
                ticket.on_step(error)
            self._count(running=-1)
        for ticket in self._waiting:
            ticket.on_step(RuntimeError("the engine was closed"))

    def _answer(self, ticket: Ticket) -> None:
        ask = ticket.ask
        for transcript in self.generator.stream(
            ask.request, max_new_tokens=ask.max_new_tokens, stop=ask.stop, sampling=ask.sampling
        ):
            if ticket.cancelled or self._closed:
                self._count(cancelled=1)
                return
            self._count(generated_tokens=1, finished=int(transcript.done))
            ticket.on_step(Step(transcript.text, len(transcript.tokens), transcript.finish_reason))

    def _count(self, **changes: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in changes.items()})
