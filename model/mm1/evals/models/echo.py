"""Log-likelihoods from answers of completions with ``echo`` and ``logprobs``. Torch-free."""

from __future__ import annotations

from typing import Any

from mm1.errors import DataError
from mm1.generation.prompt import Likelihood


def likelihood_of(choice: dict[str, Any], start: int, end: int, name: str) -> Likelihood:
    """Compute the log-likelihood of a part of the text.

    A token that begins before the part and ends in it counts.

    Args:
        choice: the answer's choice, with ``logprobs``.
        start: first character of the part.
        end: end of the part; the server may have generated more.
        name: the model, for messages.

    Raises:
        DataError: the answer lacks log-probabilities of the prompt.
    """
    try:
        logprobs = choice["logprobs"]
        values, offsets = logprobs["token_logprobs"], [int(offset) for offset in logprobs["text_offset"]]
        ends = [*offsets[1:], end]
        tops = logprobs.get("top_logprobs") or [None] * len(values)
        rows = list(zip(values, offsets, ends, tops, strict=True))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(f"{name}: expected logprobs with token_logprobs and text_offset, got {str(choice)[:200]}") from None
    scored = [(value, top) for value, begin, until, top in rows if begin < end and until > start]
    if not scored or any(not isinstance(value, int | float) for value, _ in scored):
        raise DataError(f"{name}: expected log-probabilities of the tokens after the prompt, got none")
    is_greedy = all(not top or value >= max(top.values()) for value, top in scored)
    return Likelihood(sum(float(value) for value, _ in scored), len(scored), is_greedy)
