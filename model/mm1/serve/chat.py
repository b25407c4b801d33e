"""The model behind the server, used by one thread at a time.

Requests come from many threads. The lock is held for one token, not for a whole answer: several streams take turns, and an
answer whose client has disconnected does not block the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from mm1.generation.chat import chat_prompt
from mm1.generation.config import Sampling
from mm1.generation.generator import Generator
from mm1.generation.prompt import Message, Request
from mm1.generation.transcript import Transcript


@dataclass(frozen=True)
class PartialAnswer:
    """An answer so far."""

    text: str
    """All text that is final; it only grows."""
    num_tokens: int
    """Number of tokens generated."""
    finish_reason: Literal["stop", "length"] | None
    """None while the answer is unfinished."""


class Chat:
    """Answers conversations.

    Args:
        generator: the model.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._lock = Lock()

    def prepare(self, messages: Sequence[Message], max_new_tokens: int) -> tuple[Request, int]:
        """Render a conversation and count its tokens.

        Raises:
            ConfigurationError: it does not fit the model's context.
        """
        encoder = self._generator.encoder
        request = Request(chat_prompt(self._generator.processor, messages))
        num_tokens = len(encoder.encode(request.prompt).tokens)
        encoder.check_length(num_tokens, max_new_tokens)
        return request, num_tokens

    def answer(
        self, request: Request, *, max_new_tokens: int, stop: Sequence[str] = (), sampling: Sampling | None = None
    ) -> Iterator[PartialAnswer]:
        """Answer a prepared conversation step by step; the last step has a finish reason.

        Raises:
            DataError: an image cannot be read.
        """
        transcripts = self._generator.stream(request, max_new_tokens=max_new_tokens, stop=stop, sampling=sampling)
        while (transcript := self._next(transcripts)) is not None:
            yield PartialAnswer(transcript.certain_text, len(transcript.tokens), transcript.finish_reason)

    def _next(self, transcripts: Iterator[Transcript]) -> Transcript | None:
        with self._lock:
            return next(transcripts, None)
