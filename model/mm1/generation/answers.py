"""Answers in progress, and log-probabilities of tokens.

Names of dimensions: B answers, N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mm1.generation.asks import TokenLogprob
from mm1.generation.sampling import TokenChooser, choose
from mm1.generation.transcript import Transcript

TextOf = Callable[[int], str]
"""Decodes one token."""
_CHUNK = 64
"""Positions whose log-probabilities are computed at once: a long prompt times a large vocabulary would fill the memory."""


class Answer:
    """One answer in progress.

    Args:
        transcript: its text.
        chooser: chooses its tokens.
        top_logprobs: number of likeliest tokens to list; None = no log-probabilities.
    """

    def __init__(self, transcript: Transcript, chooser: TokenChooser, top_logprobs: int | None = None) -> None:
        self.transcript = transcript
        self.chooser = chooser
        self.top_logprobs = top_logprobs
        self.logprobs: list[TokenLogprob] = []
        """Of its tokens, and of the stop token if one ended it."""

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self.transcript.done


def advance(answers: Sequence[Answer], logits_BV: torch.Tensor, text_of: TextOf) -> list[int]:
    """Choose the next token of each answer; those that are complete are left as they are.

    Returns:
        The token of each answer.
    """
    tokens = choose(logits_BV, [answer.chooser for answer in answers])
    for row, (answer, token) in enumerate(zip(answers, tokens, strict=True)):
        if answer.done:
            continue
        answer.transcript.push(token)
        if answer.top_logprobs is not None:
            answer.logprobs += token_logprobs(logits_BV[row : row + 1], [token], answer.top_logprobs, text_of)
    return tokens


def token_logprobs(logits_NV: torch.Tensor, tokens: Sequence[int], top: int, text_of: TextOf) -> list[TokenLogprob]:
    """Compute the log-probability of a token at each position, and list the likeliest ones."""
    logprobs_NV = logits_NV.log_softmax(dim=-1)
    given_N = logprobs_NV.gather(1, torch.tensor(tokens, device=logits_NV.device)[:, None])[:, 0].tolist()
    best = logprobs_NV.topk(min(top, logits_NV.shape[1]), dim=-1)
    likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenLogprob(token, text_of(token), logprob, tuple(TokenLogprob(*pair) for pair in _named(ids, values, text_of)))
        for token, logprob, (ids, values) in zip(tokens, given_N, likeliest, strict=True)
    ]


def _named(ids: Sequence[int], values: Sequence[float], text_of: TextOf) -> list[tuple[int, str, float]]:
    return [(token, text_of(token), value) for token, value in zip(ids, values, strict=True)]


def prompt_logprobs(
    logits_of: Callable[[torch.Tensor], torch.Tensor], hidden_ND: torch.Tensor, tokens: Sequence[int], top: int, text_of: TextOf
) -> list[TokenLogprob]:
    """Compute the log-probabilities of tokens of a prompt.

    Args:
        logits_of: the output layer.
        hidden_ND: outputs of the decoder at the positions before these tokens.
        tokens: the tokens.
        top: number of likeliest tokens to list.
        text_of: decodes one token.
    """
    result: list[TokenLogprob] = []
    for start in range(0, len(tokens), _CHUNK):
        chunk = tokens[start : start + _CHUNK]
        result += token_logprobs(logits_of(hidden_ND[start : start + len(chunk)]), chunk, top, text_of)
    return result
