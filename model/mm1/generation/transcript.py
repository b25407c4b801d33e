"""The answer of one sequence so far, and whether it is done.

    token -> TextStream -> final characters -> StopSearch -> text that may be shown

A sequence ends at a stop token (end of document, end of turn, an image token), at a stop string, which may span several
tokens, or at the limit of new tokens. What is shown only grows, and in the end it is the whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mm1.generation.detokenize import TextStream
from mm1.generation.prompt import Completion
from mm1.generation.stops import StopSearch


class Transcript:
    """The growing answer of one sequence.

    Args:
        tokenizer: decodes ids to text.
        stop_ids: tokens that end the answer.
        stop: strings that end the answer; an empty one is ignored.
        max_new_tokens: maximum length of the answer in tokens.
        strip: whether to drop white space at both ends.
    """

    def __init__(
        self, tokenizer: Any, stop_ids: frozenset[int], stop: Sequence[str], max_new_tokens: int, *, strip: bool = True
    ) -> None:
        self._stream = TextStream(tokenizer)
        self._search = StopSearch(stop)
        self._stop_ids = stop_ids
        self._max_new_tokens = max_new_tokens
        self._strip = strip
        self._text = ""
        self.tokens: list[int] = []
        self.finish_reason: Literal["stop", "length"] | None = "length" if max_new_tokens == 0 else None

    def push(self, token: int) -> None:
        """Add the next token."""
        if token in self._stop_ids:
            self._finish("stop")
            return
        self.tokens.append(token)
        self._add(self._stream.push(token))
        if not self.done and len(self.tokens) >= self._max_new_tokens:
            self._finish("length")

    def _finish(self, reason: Literal["stop", "length"]) -> None:
        self.finish_reason = reason
        self._add(self._stream.pending)

    def _add(self, text: str) -> None:
        if not text:
            return
        self._text += text
        if self._strip and len(self._text) == len(text):
            self._text = self._text.lstrip()
        cut = self._search.feed(text)
        if cut is not None:
            self._text = self._text[:-cut]
            self.finish_reason = "stop"

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self.finish_reason is not None

    @property
    def certain_text(self) -> str:
        """The text that no later token can change, for streaming; of a complete answer, all of it."""
        held_back = 0 if self.done else self._search.pending
        return self._stripped(self._text[: len(self._text) - held_back] if held_back <= len(self._text) else "")

    @property
    def text(self) -> str:
        """All text so far, including what later tokens may change or cut."""
        return self._stripped(self._text if self.done else self._text + self._stream.pending)

    def _stripped(self, text: str) -> str:
        return text.rstrip() if self._strip else text

    def completion(self, num_prompt_tokens: int) -> Completion:
        """Return the finished answer."""
        return Completion(self.text, tuple(self.tokens), self.finish_reason or "length", num_prompt_tokens)
