"""Decoding of tokens to text one by one, with the result of decoding them all together.

A character may span several tokens, and what a token decodes to may depend on the one before it (SentencePiece drops the space
before the first word). So the last tokens are decoded together, from a few tokens back, and text counts as final once its
last character is whole. The cost of a token does not depend on the length of the text.
"""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\ufffd"
"""Decoded form of incomplete or invalid bytes."""
_LONGEST_CHARACTER = 4
"""Bytes, and so at most as many tokens."""


class TextStream:
    """The text of a growing sequence of tokens.

    Args:
        tokenizer: decodes ids to text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._special = {token for token, properties in added.items() if properties.special}
        self._tokens: list[int] = []
        """The last tokens: those whose text is final, as context, then the others."""
        self._num_final = 0
        self._context = ""
        """Text of the context alone."""
        self.pending = ""
        """Text of the other tokens, which later ones may change."""

    def is_special(self, token: int) -> bool:
        """Whether a token has no text of its own."""
        return token in self._special

    def push(self, token: int) -> str:
        """Add a token; return the text that became final."""
        if self.is_special(token):
            return ""
        self._tokens.append(token)
        text = self._decode(self._tokens)[len(self._context) :]
        self.pending = text
        whole = text.rstrip(REPLACEMENT)
        if len(whole) == len(text):
            return self._settle(len(self._tokens), text) if text else ""
        if len(self._tokens) - self._num_final > 2 * _LONGEST_CHARACTER:
            return self._settle_invalid(text)
        return ""

    def _settle(self, count: int, text: str) -> str:
        """Make the text of the first tokens final; the last ones of them remain as context."""
        del self._tokens[: self._num_final]
        self._num_final = count - self._num_final
        self._context = self._decode(self._tokens[: self._num_final])
        self.pending = self.pending[len(text) :]
        return text

    def _settle_invalid(self, text: str) -> str:
        """Find a point between invalid bytes, far enough back that no later token can change the text before it."""
        count = len(self._tokens) - _LONGEST_CHARACTER
        first = self._decode(self._tokens[:count])[len(self._context) :]
        last = self._decode(self._tokens[count:])
        return self._settle(count, first) if first and first + last == text else ""

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
