"""Requests and completions. Torch-free.

A prompt is a tuple of segments: text as `str`, an image as the `Path` of a file, as encoded `bytes`, or as a `StoredImage`.
Each text segment is tokenised separately, as in the training data; an image becomes `image_tokens` image tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

IMAGE_MARK = "<image>"
"""Stands for an image in the text of a question or a prompt."""


class StoredImage(Protocol):
    """An encoded image that is read when it is needed, such as a cell of a table. Hashable; `str` names it uniquely."""

    def read_bytes(self) -> bytes:
        """Read the encoded image."""


@dataclass(frozen=True)
class TokenIds:
    """Text that is tokenised already: a segment of a request, or a whole prompt without images."""

    ids: tuple[int, ...]


Image = Path | bytes | StoredImage
Segment = str | Image
Prompt = tuple[Segment, ...]


@dataclass(frozen=True)
class Request:
    """A prompt to continue, in two parts."""

    prompt: tuple[Segment | TokenIds, ...]
    """Part that is specific to this request, for example the query image and its question. Not empty."""
    prefix: Prompt = ()
    """Part before the prompt, for example the demonstrations. Requests with an equal prefix share its computation."""

    @property
    def segments(self) -> Prompt:
        """Texts and images of both parts, without token ids."""
        return (*self.prefix, *(segment for segment in self.prompt if not isinstance(segment, TokenIds)))

    @property
    def images(self) -> tuple[Image, ...]:
        """Images of both parts in order."""
        return tuple(segment for segment in self.segments if not isinstance(segment, str))


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    """user, assistant or system."""
    content: Prompt
    """Texts and images in order."""

    @property
    def images(self) -> tuple[Image, ...]:
        """Its images in order."""
        return tuple(part for part in self.content if not isinstance(part, str))


@dataclass(frozen=True)
class Conversation:
    """A conversation to answer, in two parts; the model's chat template renders it."""

    messages: tuple[Message, ...]
    """Turns that are specific to this request. An assistant's turn at the end is continued."""
    prefix: tuple[Message, ...] = ()
    """Turns before them, for example the demonstrations. Conversations with an equal prefix share its computation."""


AnyPrompt = Request | Conversation
"""What a model answers: a prompt to continue, or a conversation."""


@dataclass(frozen=True)
class Completion:
    """The continuation of a prompt."""

    text: str
    """Decoded text without special tokens, cut before the stop string."""
    tokens: tuple[int, ...]
    """Generated token ids, without the stop token."""
    finish_reason: Literal["stop", "length"]
    """stop: at a stop token or stop string; length: at the limit of new tokens."""
    num_prompt_tokens: int
    """Tokens of prefix and prompt, including image tokens."""


@dataclass(frozen=True)
class Likelihood:
    """The log-likelihood of a continuation of a prompt."""

    logprob: float
    """Sum of the log-probabilities of its tokens (natural logarithm)."""
    num_tokens: int
    """Number of its tokens."""
    is_greedy: bool
    """Whether each of its tokens is the most likely one."""
