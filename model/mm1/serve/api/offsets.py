"""Positions of tokens in the text of a completion, for ``logprobs.text_offset``.

Texts of single tokens do not add up to the text: a character may have several tokens, which all begin where it begins, and
tokenizers put a space before the first word that the prompt does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mm1.generation.asks import TokenLogprob
from mm1.generation.detokenize import TextStream


class TextOffsets:
    """Positions of the tokens of one echoed prompt and its answer.

    Args:
        tokenizer: decodes ids to text.
        prompt: the echoed prompt; empty if it is not echoed.
    """

    def __init__(self, tokenizer: Any, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._answer = TextStream(tokenizer)
        self._end = len(prompt)

    def of_prompt(self, tokens: Sequence[TokenLogprob]) -> list[int]:
        """Return the positions of all tokens of the prompt; its special tokens are part of the text."""
        stream = TextStream(self._tokenizer)
        starts, end = [], 0
        for token in tokens:
            starts.append(min(end, len(self._prompt)))
            text = token.text if stream.is_special(token.token) else stream.push(token.token)
            has_space_of_its_own = text[:1] == " " and not self._prompt.startswith(text, end)
            end += len(text) - has_space_of_its_own
        return starts

    def of_answer(self, tokens: Sequence[TokenLogprob]) -> list[int]:
        """Return the positions of the next tokens of the answer."""
        starts = []
        for token in tokens:
            starts.append(self._end)
            self._end += len(self._answer.push(token.token))
        return starts
