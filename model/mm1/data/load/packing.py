"""Packing documents into sequences under two limits: tokens and images (MM1: 4096 and 16). Works on lengths only.

    lengths of documents in order -> cut_document (those longer than a sequence) -> pack -> groups of spans, one per sequence

``pack`` keeps a pool of waiting spans. A sequence starts with the one that has waited longest, so that the delay is bounded;
then the span is taken that leaves images and tokens in the pool's own proportion, so that neither limit is reached much
before the other. With one binding limit that is best fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mm1.config.base import Config
from mm1.data.sample import IMAGE_PLACE
from mm1.errors import ConfigurationError

POOL = 128
"""Waiting spans; a span is out after at most as many sequences."""
FULLNESS = 0.25
"""How much a fuller sequence counts against a better proportion."""
WAITING = 1e-10
"""What each place in the queue counts against a span: only among spans that are equal otherwise."""
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


class Span(NamedTuple):
    """Tokens of a document that go into one sequence, from ``start`` to ``stop``."""

    start: int
    """First token, in the document's tokens with all image tokens."""
    stop: int
    """After its last token."""
    num_images: int


def cut_document(parts: Sequence[int], limits: PackingLimits) -> list[Span]:
    """Cut a document that is longer than a sequence.

    Cuts fall between parts where possible, and never inside an image. Images that would end a span go with the text that
    follows them. Only a text that no sequence can hold behind its images is cut inside.

    Args:
        parts: tokens of each text part, -1 for an image, without the end-of-document token.
        limits: of a sequence.

    Returns:
        Pieces in order; together they hold every token, the end-of-document token included, once.
    """
    cuts: list[Span] = []
    position = start = images = 0
    text_end = images_at_text_end = 0

    def close(stop: int, images_inside: int) -> None:
        nonlocal start, images, text_end, images_at_text_end
        cuts.append(Span(start, stop, images_inside))
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
            close(position, images)  # nothing but images: a full span of them
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
    cuts.append(Span(start, position, images))
    return cuts


def pack(tokens: Lengths, images: Lengths, limits: PackingLimits, pool: int = POOL) -> Iterator[list[int]]:
    """Group spans into sequences.

    Args:
        tokens: tokens of each span (spans,), image tokens included, none above the limit.
        images: images of each span (spans,), none above the limit.
        limits: of a sequence.
        pool: spans that wait at most.

    Yields:
        The numbers of the spans of one sequence; over all sequences each number once.
    """
    count = len(tokens)
    size = min(pool, count)
    number_W = np.arange(size)  # W = places of the pool; what is taken is replaced in place
    tokens_W, images_W = tokens[:size].astype(np.int64), images[:size].astype(np.int64)
    all_tokens, all_images = tokens.tolist(), images.tolist()  # single ones are quicker to get from a list
    waiting_tokens, waiting_images, following, left = sum(all_tokens[:size]), sum(all_images[:size]), size, count
    while left:
        chosen = _fill(number_W, tokens_W, images_W, waiting_images / max(waiting_tokens, 1), limits)
        numbers = [int(number_W[place]) for place in chosen]
        yield numbers
        left -= len(chosen)
        for place, number in zip(chosen, numbers, strict=True):
            waiting_tokens -= all_tokens[number]
            waiting_images -= all_images[number]
            if following < count:
                waiting_tokens += all_tokens[following]
                waiting_images += all_images[following]
                tokens_W[place], images_W[place] = all_tokens[following], all_images[following]
            number_W[place] = following  # of an empty place: behind all, and its tokens fit nowhere
            following += 1


def _fill(number_W: Lengths, tokens_W: Lengths, images_W: Lengths, rate: float, limits: PackingLimits) -> list[int]:
    """Places in the pool that make up the next sequence, the one that has waited longest first; they end up fitting nowhere."""
    first = int(number_W.argmin())
    chosen = [first]
    room_tokens, room_images = limits.sequence_length - int(tokens_W[first]), limits.max_images - int(images_W[first])
    tokens_W[first] = nowhere = limits.sequence_length + 1
    misfits_W = tokens_W > room_tokens
    if misfits_W.all():
        return chosen
    rate = max(rate, 1e-9)
    # how far a span is from the proportion of the pool; what its length counts for it, and among equals how long it has waited
    excess_W = images_W - tokens_W * rate
    merit_W = tokens_W * (FULLNESS * limits.max_images / limits.sequence_length) - (number_W - number_W[first]) * WAITING
    while True:
        misfits_W |= images_W > room_images
        score_W = np.abs(excess_W - (room_images - room_tokens * rate))
        score_W -= merit_W
        score_W[misfits_W] = np.inf
        best = int(score_W.argmin())
        if misfits_W[best]:
            return chosen
        chosen.append(best)
        room_tokens -= int(tokens_W[best])
        room_images -= int(images_W[best])
        tokens_W[best] = nowhere
        misfits_W = tokens_W > room_tokens
