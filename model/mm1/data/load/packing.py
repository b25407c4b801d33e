"""Packing of documents into sequences under limits on tokens and images (MM1: 4096 and 16). Uses lengths only.

    lengths of documents in order -> cut_document (those longer than a sequence) -> pack -> groups of spans, one per sequence

``pack`` keeps a pool of waiting spans. A sequence starts with the span that has waited longest, which bounds the delay.
Then it repeatedly adds the span that keeps images and tokens in the pool's own proportion, so that neither limit is
reached much earlier than the other. With one binding limit, this is best fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mm1.config.base import Config
from mm1.data.sample import IMAGE_PLACE
from mm1.errors import ConfigurationError

POOL = 128
"""Number of waiting spans; no span waits for more sequences than this."""
FULLNESS = 0.25
"""Weight of a fuller sequence relative to a better proportion."""
WAITING = 1e-10
"""Penalty per position in the queue; it only breaks ties between otherwise equal spans."""
Lengths = np.ndarray[Any, np.dtype[np.int64]]


class PackingLimits(Config):
    """Limits of a sequence."""

    sequence_length: int
    """Tokens per sequence."""
    max_images: int
    """Maximum images per sequence; the tiles of an image count as images."""
    image_tokens: int
    """Tokens per image, or per tile."""

    def check(self) -> PackingLimits:
        """Check that a sequence can hold at least an image and a word.

        Raises:
            ConfigurationError: it cannot.
        """
        if min(self.sequence_length, self.max_images, self.image_tokens) < 1:
            raise ConfigurationError("sequence_length, max_images and image_tokens must be at least 1")
        if self.sequence_length < self.image_tokens + 2:
            raise ConfigurationError(
                f"sequence_length: {self.sequence_length} tokens cannot hold a word and an image "
                f"of image_tokens={self.image_tokens}"
            )
        return self


class Span(NamedTuple):
    """Tokens of a document in one sequence, from ``start`` to ``stop``."""

    start: int
    """First token, counted in the document's tokens including image tokens."""
    stop: int
    """One past the last token."""
    num_images: int
    """Images; the tiles of an image count as images."""


def cut_document(parts: Sequence[int], limits: PackingLimits, images: Sequence[tuple[int, int]] | None = None) -> list[Span]:
    """Split a document that is longer than a sequence.

    Splits are between parts if possible, and never inside an image, not even between its tiles. Images at the end of a span
    move to the text that follows them. A text is split only if it does not fit into a sequence after its images.

    Args:
        parts: tokens of each text part, -1 for an image; excludes the end-of-document token.
        limits: limits of a sequence.
        images: tokens and tiles of each image; by default one tile of `limits.image_tokens`.

    Returns:
        Pieces in order; together they contain every token exactly once, including the end-of-document token.
    """
    cuts: list[Span] = []
    sizes = iter(images or [(limits.image_tokens, 1)] * len(parts))
    position = start = tiles = 0
    text_end = tiles_at_text_end = 0

    def close(stop: int, tiles_inside: int) -> None:
        nonlocal start, tiles, text_end, tiles_at_text_end
        cuts.append(Span(start, stop, tiles_inside))
        start, tiles = stop, tiles - tiles_inside
        text_end, tiles_at_text_end = stop, 0

    ends_with_text = bool(parts) and parts[-1] != IMAGE_PLACE
    for length in [*parts[:-1], parts[-1] + 1] if ends_with_text else [*parts, 1]:
        is_image = length == IMAGE_PLACE
        tokens, more = next(sizes) if is_image else (length, 0)
        overflows = position + tokens - start > limits.sequence_length or tiles + more > limits.max_images
        if overflows and text_end > start:
            close(text_end, tiles_at_text_end)  # before the images preceding this part
            overflows = position + tokens - start > limits.sequence_length or tiles + more > limits.max_images
        if overflows and is_image:
            close(position, tiles)  # only images: a full span of them
            overflows = False
        while overflows:  # a text that does not fit after its images, if any
            taken = limits.sequence_length - (position - start)
            position, tokens = position + taken, tokens - taken
            close(position, tiles)
            overflows = tokens > limits.sequence_length
        position += tokens
        if is_image:
            tiles += more
        elif length:
            text_end, tiles_at_text_end = position, tiles
    cuts.append(Span(start, position, tiles))
    return cuts


def pack(tokens: Lengths, images: Lengths, limits: PackingLimits, pool: int = POOL) -> Iterator[list[int]]:
    """Group spans into sequences.

    Args:
        tokens: tokens per span (spans,), including image tokens, none above the limit.
        images: images per span (spans,), none above the limit.
        limits: limits of a sequence.
        pool: maximum number of waiting spans.

    Yields:
        The indices of the spans in one sequence; every index occurs exactly once overall.
    """
    count = len(tokens)
    size = min(pool, count)
    number_W = np.arange(size)  # W = slots of the pool; a chosen span is replaced in its slot
    tokens_W, images_W = tokens[:size].astype(np.int64), images[:size].astype(np.int64)
    all_tokens, all_images = tokens.tolist(), images.tolist()  # lists are faster for access to single items
    waiting_tokens, waiting_images, following, left = sum(all_tokens[:size]), sum(all_images[:size]), size, count
    while left:
        chosen = _fill(number_W, tokens_W, images_W, waiting_images / max(waiting_tokens, 1), limits)
        numbers = [int(number_W[slot]) for slot in chosen]
        yield numbers
        left -= len(chosen)
        for slot, number in zip(chosen, numbers, strict=True):
            waiting_tokens -= all_tokens[number]
            waiting_images -= all_images[number]
            if following < count:
                waiting_tokens += all_tokens[following]
                waiting_images += all_images[following]
                tokens_W[slot], images_W[slot] = all_tokens[following], all_images[following]
            number_W[slot] = following  # an empty slot: last in the queue, with tokens that never fit
            following += 1


def _fill(number_W: Lengths, tokens_W: Lengths, images_W: Lengths, rate: float, limits: PackingLimits) -> list[int]:
    """Choose the pool slots of the next sequence, starting with the longest-waiting span; they no longer fit anywhere."""
    first = int(number_W.argmin())
    chosen = [first]
    room_tokens, room_images = limits.sequence_length - int(tokens_W[first]), limits.max_images - int(images_W[first])
    tokens_W[first] = nowhere = limits.sequence_length + 1
    misfits_W = tokens_W > room_tokens
    if misfits_W.all():
        return chosen
    rate = max(rate, 1e-9)
    # distance from the pool's proportion; bonus for length and, as a tiebreaker, for waiting time
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
