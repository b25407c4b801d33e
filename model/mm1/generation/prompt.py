"""Requests and completions. Torch-free.

A prompt is a tuple of segments: text as `str`, an image as the `Path` of a file or as encoded `bytes`. Each text segment is
tokenised separately, as in the training data; an image becomes `image_tokens` image tokens.
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
    """Part that is specific to this request, for example the query image and its question. Not empty."""
    prefix: Prompt = ()
    """Part before the prompt, for example the demonstrations. Requests with an equal prefix share its computation."""


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
