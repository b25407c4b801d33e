"""Packing documents into sequences under two limits: tokens and images (MM1: 4096 and 16). Works on lengths only.

    lengths of documents in order -> cut_document (those longer than a sequence) -> pack -> groups of pieces, one per sequence

``pack`` keeps a pool of waiting pieces. A sequence starts with the one that has waited longest, so that the delay is bounded;
then the piece is taken that leaves images and tokens in the pool's own proportion, so that neither limit is reached much
before the other. With one binding limit that is best fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mm1.config.base import Config
from mm1.errors import ConfigurationError

POOL = 128
"""Waiting pieces; a piece is out after at most as many sequences."""
FULLNESS = 0.25
"""How much a fuller sequence counts against a better proportion."""
IMAGE_PLACE = -1
"""What stands for an image among the lengths of a document's parts."""

Lengths = np.ndarray[Any, np.dtype[np.int64]]


class PackingLimits(Config):
    """What a sequence holds at most."""

    sequence_length: int
    """Tokens of a sequence."""
    max_images: int
    """Images of a sequence at most."""
    image_tokens: int
    """Tokens that stand for one image."""

    def check(self) -> PackingLimits:
        """Refuse limits under which an image and a word do not fit into a sequence.

        Raises:
            ConfigurationError: they do not.
        """
        if min(self.sequence_length, self.max_images, self.image_tokens) < 1:
            raise ConfigurationError("sequence_length, max_images and image_tokens must be at least 1")
        if self.sequence_length < self.image_tokens + 2:
            raise ConfigurationError(
                f"sequence_length: {self.sequence_length} tokens do not hold a word and an image "
                f"of image_tokens={self.image_tokens}"
            )
        return self


class Cut(NamedTuple):
    """A stretch of a document that goes into one sequence."""

    start: int
    """First token, in the document's tokens with all image tokens."""
    stop: int
    """After its last token."""
    num_images: int


def cut_document(parts: Sequence[int], limits: PackingLimits) -> list[Cut]:
    """Cut a document that is longer than a sequence.

    Cuts fall between parts where possible, and never inside an image. Images that would end a piece go with the text that
    follows them. Only a text that no sequence can hold behind its images is cut inside.

    Args:
        parts: tokens of each text part, -1 for an image, without the end-of-document token.
        limits: of a sequence.

    Returns:
        Pieces in order; together they hold every token, the end-of-document token included, once.
    """
    cuts: list[Cut] = []
    position = start = images = 0
    text_end = images_at_text_end = 0

    def close(stop: int, images_inside: int) -> None:
        nonlocal start, images, text_end, images_at_text_end
        cuts.append(Cut(start, stop, images_inside))
        start, images = stop, images - images_inside
        text_end, images_at_text_end = stop, 0

    ends_with_text = bool(parts) and parts[-1] != IMAGE_PLACE
    for length in [*parts[:-1], parts[-1] + 1] if ends_with_text else [*parts, 1]:
        is_image = length == IMAGE_PLACE
        tokens = limits.image_tokens if is_image else length
        overflows = position + tokens - start > limits.sequence_length or images + is_image > limits.max_images
        if overflows and text_end > start:
            close(text_end, images_at_text_end)  # before the images that lead up to here
            overflows = position + tokens - start > limits.sequence_length or images + is_image > limits.max_images
        if overflows and is_image:
            close(position, images)  # nothing but images: a full piece of them
            overflows = False
        while overflows:  # a text that does not fit, behind the images that it belongs to, if any
            taken = limits.sequence_length - (position - start)
            position, tokens = position + taken, tokens - taken
            close(position, images)
            overflows = tokens > limits.sequence_length
        position += tokens
        if is_image:
            images += 1
        elif length:
            text_end, images_at_text_end = position, images
    cuts.append(Cut(start, position, images))
    return cuts


def pack(tokens: Lengths, images: Lengths, limits: PackingLimits, pool: int = POOL) -> Iterator[list[int]]:
    """Group pieces into sequences.

    Args:
        tokens: tokens of each piece (pieces,), image tokens included, none above the limit.
        images: images of each piece (pieces,), none above the limit.
        limits: of a sequence.
        pool: pieces that wait at most.

    Yields:
        The numbers of the pieces of one sequence; over all sequences each number once.
    """
    count = len(tokens)
    size = min(pool, count)
    waiting = np.arange(size)
    tokens_W, images_W = tokens[:size].copy(), images[:size].copy()  # W = places of the pool
    following = size
    while len(waiting):
        chosen = _fill(waiting, tokens_W, images_W, limits)
        yield waiting[chosen].tolist()
        fresh = np.arange(following, min(following + len(chosen), count))
        following += len(fresh)
        keep = np.ones(len(waiting), bool)
        keep[chosen] = False
        waiting = np.concatenate([waiting[keep], fresh])
        tokens_W = np.concatenate([tokens_W[keep], tokens[fresh]])
        images_W = np.concatenate([images_W[keep], images[fresh]])


def _fill(waiting: Lengths, tokens_W: Lengths, images_W: Lengths, limits: PackingLimits) -> list[int]:
    """Places in the pool that make up the next sequence; place 0 has waited longest."""
    rate = max(images_W.sum() / max(tokens_W.sum(), 1), 1e-9)
    weight = FULLNESS * limits.max_images / limits.sequence_length
    room_tokens, room_images = limits.sequence_length - int(tokens_W[0]), limits.max_images - int(images_W[0])
    chosen = [0]
    tokens_W = tokens_W.copy()
    tokens_W[0] = limits.sequence_length + 1  # what is taken fits nowhere
    while True:
        fitting = np.flatnonzero((tokens_W <= room_tokens) & (images_W <= room_images))
        if not len(fitting):
            return chosen
        left_tokens, left_images = room_tokens - tokens_W[fitting], room_images - images_W[fitting]
        best = int(fitting[np.argmin(np.abs(left_images - left_tokens * rate) + weight * left_tokens)])
        chosen.append(best)
        room_tokens -= int(tokens_W[best])
        room_images -= int(images_W[best])
        tokens_W[best] = limits.sequence_length + 1
