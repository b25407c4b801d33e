"""The running answers of the engine: one batch, to which answers are added and from which they are removed between tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from mm1.errors import OutOfMemory, typed
from mm1.generation.answers import Answer, advance
from mm1.generation.asks import Ask, Step, TokenLogprob
from mm1.generation.decode import DecodingState
from mm1.generation.encode import Encoded
from mm1.generation.generator import Generator
from mm1.generation.prefill import Processed, Prompt
from mm1.generation.prefix_cache import PrefixCache

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

    @property
    def step(self) -> Step:
        """The answer so far."""
        transcript = self.answer.transcript
        return Step(
            transcript.certain_text,
            len(transcript.tokens),
            transcript.finish_reason,
            tuple(self.answer.logprobs),
            self.prompt_logprobs,
        )


@dataclass(frozen=True)
class Outcome:
    """Result of a pass for the running answers. Failed and paused ones have left the batch."""

    advanced: list[Ticket] = field(default_factory=list)
    """Answers with a new token; those that are complete have left the batch."""
    failed: list[tuple[Ticket, Exception]] = field(default_factory=list)
    paused: list[Ticket] = field(default_factory=list)
    """Answers for which the memory was not enough, earliest first; they can go on from their last token."""


class Batch:
    """Running answers.

    Args:
        generator: the model.
        cache: freed first when memory runs out.
    """

    def __init__(self, generator: Generator, cache: PrefixCache) -> None:
        self.tickets: list[Ticket] = []
        self._decoder, self._text_of, self._cache = generator.decoder, generator.text_of, cache
        self._state: DecodingState | None = None
        """State of the running answers, row by row."""

    def join(self, ticket: Ticket, processed: Processed) -> None:
        """Add an answer whose prompt is processed."""
        assert processed.last is not None
        if self._state is None:
            self._state = DecodingState.of_row(processed.states, processed.last)
        else:
            self._state.add(processed.states, processed.last)
        self.tickets.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Remove an answer; the last one takes its row."""
        row = self.tickets.index(ticket)
        self.tickets[row] = self.tickets[-1]
        self.tickets.pop()
        if self._state is not None and self.tickets:
            self._state.remove(row)
        else:
            self._state = None

    def advance(self) -> Outcome:
        """Choose the next token of each answer."""
        tickets = list(self.tickets)
        if self._state is None:
            return Outcome()
        try:
            logits_BV = self._decoder.logits(self._state.last_BD)
        except Exception as error:  # noqa: BLE001  passed on to the asks concerned
            return self._after(error)
        try:
            advance([ticket.answer for ticket in tickets], logits_BV, self._text_of)
        except ArithmeticError as error:  # before any token was added
            damaged = [tickets[row] for row in logits_BV.isnan().any(dim=-1).nonzero()[:, 0].tolist()]
            for ticket in damaged:
                self.leave(ticket)
            return Outcome(failed=[(ticket, error) for ticket in damaged])
        for ticket in tickets:
            if ticket.answer.done:
                self.leave(ticket)
        return Outcome(advanced=tickets)

    def extend(self) -> Outcome:
        """Process the new tokens; if the memory is not enough, with fewer answers at once."""
        paused: list[Ticket] = []
        while self.tickets:
            tokens = [ticket.answer.transcript.tokens[-1:] for ticket in self.tickets]
            try:
                self._state = self._decoder.extend(tokens, state=self._state)
                break
            except Exception as error:  # noqa: BLE001  passed on to the asks concerned
                outcome = self._after(error)
                paused = [*outcome.paused, *paused]
                if outcome.failed:
                    return Outcome(failed=outcome.failed, paused=paused)
        return Outcome(paused=paused)

    def _after(self, error: Exception) -> Outcome:
        """Free memory after a pass that ran out of it, so that it can be tried again; end all answers after other errors."""
        if not isinstance(typed(error), OutOfMemory) or (len(self.tickets) == 1 and not self._cache.num_bytes):
            return Outcome(failed=[(ticket, error) for ticket in self.clear()])
        if self._cache.clear():
            return Outcome()
        return Outcome(paused=self._pause(len(self.tickets) // 2))

    def clear(self) -> list[Ticket]:
        """Remove and return all answers."""
        tickets, self.tickets, self._state = self.tickets, [], None
        return tickets

    def _pause(self, count: int) -> list[Ticket]:
        last = sorted(self.tickets, key=lambda ticket: ticket.started)[-count:]
        for ticket in last:
            self.leave(ticket)
        return last
