"""The answer of one sequence so far, and whether it is done.

A sequence ends at a stop token (end of document, end of turn, an image token), at a stop string, which may span several
tokens, or at the limit of new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mm1.generation.prompt import Completion


class Transcript:
    """The growing answer of one sequence.

    Args:
        tokenizer: decodes ids to text.
        stop_ids: tokens that end the answer.
        stop: strings that end the answer.
        max_new_tokens: maximum length of the answer in tokens.
    """

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int], stop: Sequence[str], max_new_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._stop = tuple(text for text in stop if text)  # an empty string would end every answer
        self._max_new_tokens = max_new_tokens
        # Text that may be the beginning of a stop string must not be streamed yet.
        self._held_back = max((len(text) for text in self._stop), default=1) - 1
        self.tokens: list[int] = []
        self.text = ""
        self.finish_reason: Literal["stop", "length"] | None = None

    def push(self, token: int) -> None:
        """Add the next token."""
        if token in self._stop_ids:
            self.finish_reason = "stop"
            return
        self.tokens.append(token)
        self.text = self._tokenizer.decode(self.tokens, skip_special_tokens=True)
        cuts = [position for text in self._stop if (position := self.text.find(text)) >= 0]
        if cuts:
            self.text = self.text[: min(cuts)]
            self.finish_reason = "stop"
        elif len(self.tokens) >= self._max_new_tokens:
            self.finish_reason = "length"

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self.finish_reason is not None

    @property
    def certain_text(self) -> str:
        """The part of the text that no later token can change, for streaming."""
        if self.done:
            return self.text
        # A character with incomplete bytes is decoded to the replacement character.
        return self.text[: len(self.text) - self._held_back].rstrip("\ufffd")

    def completion(self, num_prompt_tokens: int) -> Completion:
        """Return the finished answer."""
        return Completion(self.text.strip(), tuple(self.tokens), self.finish_reason or "length", num_prompt_tokens)
