"""The answer to a question with choices, from the log-likelihoods of the choices, as in lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

Length = Literal["none", "characters", "bytes"]
"""Divisor of a log-likelihood: nothing (acc), characters (acc_norm) or bytes of UTF-8 (acc_bytes) of the choice."""
_LENGTHS: dict[Length, Callable[[str], int]] = {
    "none": lambda choice: 1,
    "characters": len,
    "bytes": lambda choice: len(choice.encode()),
}


def best_choice(logprobs: Sequence[float], choices: Sequence[str], length: Length = "none") -> int:
    """Return the index of the likeliest choice, the first of equals.

    Args:
        logprobs: log-likelihood of each choice.
        choices: the choices, without the space before them.
        length: compensation for the length of a choice.

    Raises:
        ValueError: there is no choice, or one is empty: its log-likelihood is 0 and would always win.
    """
    if not choices or len(logprobs) != len(choices):
        raise ValueError(f"expected one log-likelihood for each of at least one choice, got {len(logprobs)} for {len(choices)}")
    if not all(choices):
        raise ValueError(f"choice {list(choices).index('')} is empty; remove it")
    scores = [logprob / _LENGTHS[length](choice) for logprob, choice in zip(logprobs, choices, strict=True)]
    return scores.index(max(scores))
