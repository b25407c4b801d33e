"""Answers of many askers at once: continuous batching by one thread that owns the model.

    submit(ask) -> waiting -> prefill.py: prompts, a part at a time -> one batch, one token of all answers per pass
                                                                     -> on_step(Step) after each token

Between two tokens of the running answers, answers that are complete or cancelled leave the batch, a part of the waiting prompts
is processed, and the prompts that are complete join. Asks come from any thread; `on_step` is called from the engine's thread
and must be quick.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Event, Thread
from time import monotonic

from mm1.errors import OutOfMemory, typed
from mm1.generation.answers import Answer, advance
from mm1.generation.asks import Ask, Closed, EngineStats, Overloaded, Step, TokenLogprob
from mm1.generation.config import EngineSettings
from mm1.generation.decode import DecodingState
from mm1.generation.encode import Encoded
from mm1.generation.generator import Generator
from mm1.generation.prefill import Prefill, Processed, Prompt
from mm1.generation.prefix_cache import PrefixCache
from mm1.generation.sampling import TokenChooser

__all__ = ["Ask", "Closed", "Engine", "EngineStats", "OnStep", "Overloaded", "Step", "Ticket", "TokenLogprob"]

_COUNTED = ("finished", "cancelled", "failed", "generated_tokens", "prompt_tokens", "prefix_hit_tokens")

log = logging.getLogger(__name__)

OnStep = Callable[[Step | Exception], None]
"""Called after each token with the answer so far; an exception ends the answer."""


@dataclass(eq=False)
class Ticket:
    """A submitted ask."""

    ask: Ask
    encoded: Encoded
    """The prompt."""
    answer: Answer
    on_step: OnStep
    started: float = 0.0
    """Clock time at which it left the queue."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    prompt: Prompt = field(init=False)
    _cancelled: Event = field(default_factory=Event)

    def cancel(self) -> None:
        """Give up the answer before its next token; nothing happens if it is complete."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the answer was given up."""
        return self._cancelled.is_set()

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt, including those of images."""
        return len(self.encoded.tokens)

    @property
    def num_tokens(self) -> int:
        """Most tokens that prompt and answer can have."""
        return self.num_prompt_tokens + self.ask.max_new_tokens


class Engine:
    """Answers asks with one model.

    Args:
        generator: the model; no other thread may generate with it while the engine is open.
        settings: limits of the queue and of the batch.
    """

    def __init__(self, generator: Generator, settings: EngineSettings | None = None) -> None:
        self.generator = generator
        self.settings = settings or EngineSettings()
        self._waiting: deque[Ticket] = deque()
        self._wake = Condition()
        self._closed = False
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._seconds_per_answer = 1.0
        self._cache = PrefixCache(self.settings.prefix_cache_bytes)
        self._prefill = Prefill(generator.decoder, generator.encoder, self._cache, generator.text_of)
        self._running: list[Ticket] = []
        self._state: DecodingState | None = None
        """State of the running answers, row by row."""
        self._limit = self.settings.max_running
        self._thread = Thread(target=self._run, name="mm1-engine", daemon=True)
        self._thread.start()

    # -- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, ask: Ask, on_step: OnStep) -> Ticket:
        """Queue an ask.

        Raises:
            ConfigurationError: the prompt is empty, does not fit the model's context, or has forbidden tokens.
            Overloaded: too many asks are waiting.
            Closed: the engine is closed.
        """
        self._refuse_if_full()
        ticket = self._ticket(ask, on_step)
        with self._wake:
            self._refuse_if_full()
            self._waiting.append(ticket)
            self._wake.notify()
        return ticket

    def stats(self) -> EngineStats:
        """Return the state and the counters."""
        with self._wake:
            waiting = sum(not ticket.cancelled for ticket in self._waiting)
        running = len(self._running) + len(self._prefill.prompts)
        return EngineStats(waiting=waiting, running=running, prefix_cache_bytes=self._cache.num_bytes, **self._counts)

    @property
    def is_alive(self) -> bool:
        """Whether the engine can answer: it was not closed, and its thread runs."""
        return not self._closed and self._thread.is_alive()

    def close(self) -> None:
        """Stop; asks that are not complete end with `Closed`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _ticket(self, ask: Ask, on_step: OnStep) -> Ticket:
        prefix, prompt = self.generator.encoder.encode_request(ask.request)
        encoded = Encoded(prefix.tokens + prompt.tokens, prefix.images + prompt.images)
        self.generator.encoder.check_length(len(encoded.tokens), ask.max_new_tokens)
        transcript = self.generator.transcript(ask.stop, ask.max_new_tokens, strip=ask.strip)
        answer = Answer(transcript, TokenChooser(ask.sampling), ask.top_logprobs)
        ticket = Ticket(ask, encoded, answer, on_step)
        ticket.prompt = self._prefill.prepare(ticket, encoded, (ask.top_logprobs or 0) if ask.prompt_logprobs else None)
        return ticket

    def _refuse_if_full(self) -> None:
        if self._closed:
            raise Closed
        if len(self._waiting) < self.settings.max_waiting:
            return
        with self._wake:
            self._drop_cancelled_waiting()
            if len(self._waiting) >= self.settings.max_waiting:
                rounds = 1 + len(self._waiting) / self.settings.max_running
                raise Overloaded(min(60.0, max(1.0, rounds * self._seconds_per_answer)))

    def _drop_cancelled_waiting(self) -> None:
        for ticket in [ticket for ticket in self._waiting if ticket.cancelled]:
            self._waiting.remove(ticket)
            self._counts["cancelled"] += 1

    # -- the engine's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._running or self._prefill.prompts or self._closed)
                if self._closed:
                    break
            try:
                self._round()
            except Exception as error:  # noqa: BLE001  the engine goes on with other asks
                started = self._started()
                self._prefill.prompts.clear()
                self._fail_all(started, error)
        for ticket in [*self._started(), *self._waiting]:
            self._tell(ticket, Closed())

    def _round(self) -> None:
        self._drop_cancelled()
        self._admit()
        for processed in self._prefill.step(self.settings.prefill_tokens):
            self._join(processed)
        if self._running:
            self._step()

    def _started(self) -> list[Ticket]:
        return [*self._running, *(prompt.owner for prompt in self._prefill.prompts)]

    def _drop_cancelled(self) -> None:
        for row in reversed([row for row, ticket in enumerate(self._running) if ticket.cancelled]):
            self._leave(row, "cancelled")
        for prompt in [prompt for prompt in self._prefill.prompts if prompt.owner.cancelled]:
            self._prefill.prompts.remove(prompt)
            self._counts["cancelled"] += 1

    def _admit(self) -> None:
        """Take asks from the queue, in its order, as long as there is room."""
        admitted = self._started()
        longest = max((ticket.num_tokens for ticket in admitted), default=0)
        with self._wake:
            self._drop_cancelled_waiting()
            while self._waiting:
                ticket = self._waiting[0]
                longest = max(longest, ticket.num_tokens)
                full = len(admitted) >= self._limit or longest * (len(admitted) + 1) > self.settings.batch_tokens
                if admitted and full:
                    return
                self._waiting.popleft()
                ticket.started = ticket.started or monotonic()
                admitted.append(ticket)
                self._prefill.prompts.append(ticket.prompt)

    def _join(self, processed: Processed) -> None:
        """Let a prompt that is complete join the running answers."""
        prompt, ticket = processed.prompt, processed.prompt.owner
        if processed.error is not None:
            self._fail_or_retry(ticket, processed.error)
            return
        self._counts["prompt_tokens"] += len(prompt.encoded.tokens)
        self._counts["prefix_hit_tokens"] += prompt.num_cached
        ticket.prompt_logprobs = ticket.prompt_logprobs or tuple(prompt.logprobs)
        if ticket.answer.done:  # no token was requested
            self._finish(ticket)
            self._tell(ticket)
            return
        assert processed.last is not None
        if self._state is None:
            self._state = DecodingState.of_row(processed.states, processed.last)
        else:
            self._state.add(processed.states, processed.last)
        self._running.append(ticket)

    def _step(self) -> None:
        """Add a token to each running answer."""
        assert self._state is not None
        logits_BV = self.generator.decoder.logits(self._state.last_BD)
        try:
            advance([ticket.answer for ticket in self._running], logits_BV, self.generator.text_of)
        except ArithmeticError as error:  # before any token was added
            for row in reversed(logits_BV.isnan().any(dim=-1).nonzero()[:, 0].tolist()):
                ticket = self._running[row]
                self._leave(row, "failed")
                self._tell(ticket, error)
            return
        self._counts["generated_tokens"] += len(self._running)
        tickets = list(self._running)
        for row in reversed([row for row, ticket in enumerate(tickets) if ticket.answer.done]):
            self._finish(tickets[row])
            self._leave(row)
        for ticket in tickets:
            self._tell(ticket)
        self._extend()

    def _extend(self) -> None:
        """Process the new tokens; if the memory is not enough, with fewer answers at once."""
        while self._running:
            tokens = [ticket.answer.transcript.tokens[-1:] for ticket in self._running]
            try:
                self._state = self.generator.decoder.extend(tokens, state=self._state)
                return
            except Exception as error:  # noqa: BLE001  passed on to the asks concerned
                self._make_room(error)

    def _make_room(self, error: Exception) -> None:
        """Free memory after a pass that failed, so that it can be tried again; give up if that is not possible."""
        if not isinstance(typed(error), OutOfMemory):
            self._fail_all(self._running, error)
        elif self._cache.clear():
            return
        elif len(self._running) > 1:
            self._pause(len(self._running) // 2)
        else:
            self._fail_all(self._running, error)

    def _pause(self, count: int) -> None:
        """Put the last answers back to the head of the queue; they go on from their last token when there is room."""
        last = sorted(self._running, key=lambda ticket: ticket.started)[-count:]
        for ticket in reversed(last):
            self._leave(self._running.index(ticket))
            self._requeue(ticket)
        self._limit = max(1, len(self._running))
        log.warning("out of memory: going on with %d answers at once", self._limit)

    def _requeue(self, ticket: Ticket) -> None:
        tokens = ticket.encoded.tokens + tuple(ticket.answer.transcript.tokens)
        scored = ticket.prompt.top_logprobs is not None and not ticket.answer.transcript.tokens
        ticket.prompt = self._prefill.prepare(
            ticket, Encoded(tokens, ticket.encoded.images), ticket.prompt.top_logprobs if scored else None
        )
        with self._wake:
            self._waiting.appendleft(ticket)

    def _fail_or_retry(self, ticket: Ticket, error: Exception) -> None:
        """Handle a prompt that failed alone: if it ran out of memory, it is tried again with less in memory."""
        others = bool(self._running or self._prefill.prompts)
        if isinstance(typed(error), OutOfMemory) and (self._cache.clear() or others):
            self._limit = max(1, len(self._running))
            self._requeue(ticket)
        else:
            self._counts["failed"] += 1
            self._tell(ticket, error)

    def _fail_all(self, tickets: list[Ticket], error: Exception) -> None:
        if not isinstance(typed(error), OutOfMemory):
            log.error("%d answers failed", len(tickets), exc_info=error)
        self._counts["failed"] += len(tickets)
        failed, self._running, self._state = tickets, [], None
        for ticket in failed:
            self._tell(ticket, error)

    def _finish(self, ticket: Ticket) -> None:
        self._counts["finished"] += 1
        self._limit = min(self.settings.max_running, self._limit + 1)
        self._seconds_per_answer += (monotonic() - ticket.started - self._seconds_per_answer) / 8

    def _leave(self, row: int, reason: str = "") -> None:
        """Remove a running answer; the last one takes its row."""
        assert self._state is not None
        self._running[row] = self._running[-1]
        self._running.pop()
        if self._running:
            self._state.remove(row)
        else:
            self._state = None
        if reason:
            self._counts[reason] += 1

    def _tell(self, ticket: Ticket, error: Exception | None = None) -> None:
        if ticket.cancelled:
            return
        answer, transcript = ticket.answer, ticket.answer.transcript
        step = Step(
            transcript.text, len(transcript.tokens), transcript.finish_reason, tuple(answer.logprobs), ticket.prompt_logprobs
        )
        try:
            ticket.on_step(step if error is None else error)
        except Exception:
            log.exception("the receiver of an answer failed")
            ticket.cancel()
