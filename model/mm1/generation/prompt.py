"""What is asked and what comes back, free of torch.

A prompt is a tuple of segments: text as `str`, an image as a file's `Path` or as its encoded `bytes`. Each text segment is
tokenised on its own, as the data room does in training; an image becomes `image_tokens` image tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Image = Path | bytes
Segment = str | Path | bytes
Prompt = tuple[Segment, ...]


@dataclass(frozen=True)
class Request:
    """A prompt to continue, in two parts."""

    prompt: Prompt
    """What is special to this request, for example the query image and its question. Not empty."""
    prefix: Prompt = ()
    """What stands before it, for example the demonstrations. Requests with an equal prefix share its computation."""


@dataclass(frozen=True)
class Completion:
    """The continuation of a prompt."""

    text: str
    """Decoded text without special tokens, cut before the stop string."""
    tokens: tuple[int, ...]
    """Generated token ids, without the token that ended it."""
    finish_reason: Literal["stop", "length"]
    """stop: a stop token or stop string came; length: the limit of new tokens was reached."""
    num_prompt_tokens: int
    """Tokens of prefix and prompt, image tokens counted."""
