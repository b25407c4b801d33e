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
from threading import Condition, Thread
from time import monotonic

from mm1.errors import OutOfMemory, typed
from mm1.generation.answers import Answer
from mm1.generation.asks import Ask, Closed, EngineStats, Overloaded, Step, TokenLogprob
from mm1.generation.batch import Batch, OnStep, Outcome, Ticket
from mm1.generation.config import EngineSettings
from mm1.generation.encode import Encoded
from mm1.generation.generator import Generator
from mm1.generation.prefill import Prefill, Processed
from mm1.generation.prefix_cache import PrefixCache
from mm1.generation.sampling import TokenChooser

__all__ = ["Ask", "Closed", "Engine", "EngineStats", "OnStep", "Overloaded", "Step", "Ticket", "TokenLogprob"]

_COUNTED = ("finished", "cancelled", "failed", "generated_tokens", "prompt_tokens", "prefix_hit_tokens")

log = logging.getLogger(__name__)


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
        self._batch = Batch(generator, self._cache)
        self._limit = self.settings.max_running
        self._thread = Thread(target=self._run, name="mm1-engine", daemon=True)
        self._thread.start()

    # -- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, ask: Ask, on_step: OnStep) -> Ticket:
        """Queue an ask.

        Raises:
            ConfigurationError: the prompt is empty, does not fit the model's context, or has forbidden tokens.
            DataError: an image that is divided into tiles cannot be read.
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
        running = len(self._started())
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
        if not self._is_full():
            return
        with self._wake:
            self._drop_cancelled_waiting()
            if self._is_full():
                rounds = 1 + len(self._waiting) / self.settings.max_running
                raise Overloaded(min(60.0, max(1.0, rounds * self._seconds_per_answer)))

    def _is_full(self) -> bool:
        """Whether no more asks may be queued; those that find a free place in the batch do not wait."""
        free = max(0, self._limit - len(self._started()))
        return len(self._waiting) >= self.settings.max_waiting + free

    def _drop_cancelled_waiting(self) -> None:
        for ticket in [ticket for ticket in self._waiting if ticket.cancelled]:
            self._waiting.remove(ticket)
            self._counts["cancelled"] += 1

    # -- the engine's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._started() or self._closed)
                if self._closed:
                    break
            try:
                self._round()
            except Exception as error:  # noqa: BLE001  the engine goes on with other asks
                for ticket in self._started():
                    self._fail(ticket, error)
                self._prefill.prompts.clear()
                self._batch.clear()
        for ticket in [*self._started(), *self._waiting]:
            self._tell(ticket, Closed())

    def _round(self) -> None:
        """Do the work between two tokens, and one token."""
        self._drop_cancelled()
        self._admit()
        for processed in self._prefill.step(self.settings.prefill_tokens):
            self._join(processed)
        outcome = self._batch.advance()
        self._settle(outcome)
        if outcome.advanced:
            self._settle(self._batch.extend())

    def _started(self) -> list[Ticket]:
        return [*self._batch.tickets, *(prompt.owner for prompt in self._prefill.prompts)]

    def _drop_cancelled(self) -> None:
        for ticket in [ticket for ticket in self._batch.tickets if ticket.cancelled]:
            self._batch.leave(ticket)
            self._counts["cancelled"] += 1
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
            self._tell(ticket, ticket.step)
            return
        try:
            self._batch.join(ticket, processed)
        except Exception as error:  # noqa: BLE001  passed on to the ask concerned
            self._fail_or_retry(ticket, error)

    def _settle(self, outcome: Outcome) -> None:
        self._counts["generated_tokens"] += len(outcome.advanced)
        for ticket in outcome.advanced:
            if ticket.answer.done:
                self._finish(ticket)
        for ticket in outcome.advanced:
            self._tell(ticket, ticket.step)
        for ticket, error in outcome.failed:
            self._fail(ticket, error)
        for ticket in reversed(outcome.paused):
            self._requeue(ticket)

    def _fail_or_retry(self, ticket: Ticket, error: Exception) -> None:
        """Handle a prompt that failed alone: if it ran out of memory, it is tried again with less in memory."""
        if isinstance(typed(error), OutOfMemory) and (self._cache.clear() or self._started()):
            self._requeue(ticket)
        else:
            self._fail(ticket, error)

    def _requeue(self, ticket: Ticket) -> None:
        """Put an ask back to the head of the queue after memory ran out, with the tokens that its answer has."""
        self._limit = max(1, len(self._batch.tickets))
        log.warning("out of memory: going on with %d answers at once", self._limit)
        tokens = ticket.encoded.tokens + tuple(ticket.answer.transcript.tokens)
        ticket.prompt = self._prefill.prepare(
            ticket, Encoded(tokens, ticket.encoded.images), None if ticket.prompt_logprobs else ticket.prompt.top_logprobs
        )
        with self._wake:
            self._waiting.appendleft(ticket)

    def _finish(self, ticket: Ticket) -> None:
        self._counts["finished"] += 1
        self._limit = min(self.settings.max_running, self._limit + 1)
        self._seconds_per_answer += (monotonic() - ticket.started - self._seconds_per_answer) / 8

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if typed(error) is None:
            log.error("an answer failed", exc_info=error)
        self._counts["failed"] += 1
        self._tell(ticket, error)

    def _tell(self, ticket: Ticket, step: Step | Exception) -> None:
        if ticket.cancelled:
            return
        try:
            ticket.on_step(step)
        except Exception:
            log.exception("the receiver of an answer failed")
            ticket.cancel()
