"""Asks of the engine and the steps of their answers. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mm1.generation.config import Sampling
from mm1.generation.prompt import AnyPrompt, TokenIds


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One answer to generate."""

    request: AnyPrompt | TokenIds
    max_new_tokens: int
    """Maximum length of the answer in tokens; 0 only scores the prompt."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int | None = None
    """Number of likeliest tokens listed at each position; 0 = the chosen token's log-probability only, None = none at all."""
    prompt_logprobs: bool = False
    """Whether to compute the log-probabilities of the prompt's tokens as well."""
    strip: bool = True
    """Whether to drop white space at both ends of the answer."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token and its log-probability (natural logarithm)."""

    token: int
    text: str
    """Decoded text of this token alone; the bytes of a character that it has only a part of are U+FFFD."""
    logprob: float | None
    """None where nothing predicts the token: the first one of a prompt, and the tokens of images."""
    top: tuple[TokenLogprob, ...] = ()
    """The likeliest tokens of this position, best first."""


@dataclass(frozen=True)
class Step:
    """An answer so far."""

    text: str
    """All text that is final; it only grows."""
    num_tokens: int
    """Number of tokens generated."""
    finish_reason: Literal["stop", "length"] | None = None
    """None while the answer is unfinished."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens so far, if requested, and of the stop token that ended the answer, which is not among its tokens."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of the prompt's tokens, if requested."""


class Overloaded(RuntimeError):
    """Too many asks are waiting.

    Args:
        retry_after_s: seconds after which there is probably room.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class Closed(RuntimeError):
    """The engine was closed before the answer was complete."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


@dataclass(frozen=True)
class EngineStats:
    """State and counters of an engine."""

    waiting: int
    """Asks that have not started."""
    running: int
    """Asks that are being answered."""
    finished: int = 0
    """Answers completed since the start."""
    cancelled: int = 0
    """Asks that were cancelled."""
    failed: int = 0
    """Asks that ended with an exception."""
    generated_tokens: int = 0
    prompt_tokens: int = 0
    prefix_hit_tokens: int = 0
    """Tokens of prompts that were found in the prefix cache."""
    prefix_cache_bytes: int = 0
