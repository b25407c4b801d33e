"""Rows of a batch that give the log-likelihood of continuations. Torch-free.

A continuation is tokenised together with its prompt, as lm-evaluation-harness does. Continuations of one token, such as the
letters of options, share one row, the prompt: their log-probabilities are all at its last position. Any other one is a row of
its own, the prompt followed by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mm1.errors import ConfigurationError
from mm1.evals.models.rendering import Rendered
from mm1.generation.prompt import Image, Likelihood

TokenScore = tuple[float, bool]
"""Log-probability of a token, and whether it is the most likely one."""


@dataclass(frozen=True)
class Row:
    """A text to process once."""

    text: str
    images: tuple[Image, ...]
    candidates: tuple[int, ...] = ()
    """Tokens to compare after the text; empty: the last tokens of the text are scored."""
    num_tokens: int = 1
    """Number of the last tokens to score."""

    def positions(self, length: int) -> range:
        """Return the positions whose next token is scored, in a text of this number of tokens."""
        return range(length - 1, length) if self.candidates else range(length - self.num_tokens - 1, length - 1)

    def targets(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the tokens to score at each position."""
        return [self.candidates] if self.candidates else [(token,) for token in ids[len(ids) - self.num_tokens :]]


@dataclass(frozen=True)
class PromptRows:
    """The rows of one prompt."""

    rows: tuple[Row, ...]
    places: tuple[tuple[int, int | None], ...]
    """For each continuation its row, and its candidate in it; None: the whole row."""

    def likelihoods(self, scores: Sequence[Sequence[TokenScore]]) -> list[Likelihood]:
        """Return the likelihood of each continuation from the scores of the rows."""
        parts = [scores[row] if slot is None else scores[row][slot : slot + 1] for row, slot in self.places]
        return [
            Likelihood(sum(logprob for logprob, _ in part), len(part), all(is_greedy for _, is_greedy in part))
            for part in parts
        ]


def rows_of(prompt: Rendered, continuations: Sequence[str], tokenize: Callable[[str], list[int]]) -> PromptRows:
    """Return the rows that score the continuations of a prompt.

    Raises:
        ConfigurationError: a continuation is empty.
    """
    before = tokenize(prompt.text)
    singles: list[int] = []
    rows: list[Row] = []
    places: list[tuple[int, int | None]] = []
    for continuation in continuations:
        if not continuation.strip():
            raise ConfigurationError("a continuation to score is empty: expected at least one token")
        text = prompt.continued(continuation)
        after = tokenize(text)
        if after[:-1] == before:
            places.append((0, len(singles)))
            singles.append(after[-1])
        else:
            rows.append(Row(text, prompt.images, num_tokens=max(1, len(after) - len(before))))
            places.append((len(rows), None))
    if singles:
        return PromptRows((Row(prompt.text, prompt.images, candidates=tuple(singles)), *rows), tuple(places))
    return PromptRows(tuple(rows), tuple((row - 1, slot) for row, slot in places))
