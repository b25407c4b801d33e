"""Search for stop strings in a text that arrives in pieces.

Each stop string is an automaton (Knuth, Morris and Pratt), so the result is the same wherever the text is split, and each
character costs constant time. Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopSearch:
    """Finds the stop string that is complete first.

    Args:
        stop: strings to find; empty ones are ignored.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._patterns = [(text, _borders(text)) for text in dict.fromkeys(stop) if text]
        self._lengths = [0] * len(self._patterns)

    def feed(self, text: str) -> int | None:
        """Read more text.

        Returns:
            Number of characters of all text so far that belong to a complete stop string and what follows it, that is, to be
            cut; None if there is none. Of several that are complete at the same character, the longest counts.
        """
        for position, character in enumerate(text):
            complete = 0
            for number, (pattern, borders) in enumerate(self._patterns):
                length = self._lengths[number]
                while length and (length == len(pattern) or pattern[length] != character):
                    length = borders[length - 1]
                length += pattern[length] == character
                self._lengths[number] = length
                if length == len(pattern):
                    complete = max(complete, length)
            if complete:
                return complete + len(text) - position - 1
        return None

    @property
    def pending(self) -> int:
        """Number of characters at the end of the text that may be the beginning of a stop string."""
        return max(self._lengths, default=0)


def _borders(pattern: str) -> list[int]:
    """Length of the longest proper prefix of each beginning of a pattern that is also its suffix."""
    borders = [0] * len(pattern)
    length = 0
    for position in range(1, len(pattern)):
        while length and pattern[position] != pattern[length]:
            length = borders[length - 1]
        length += pattern[position] == pattern[length]
        borders[position] = length
    return borders
