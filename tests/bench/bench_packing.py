"""Packing under two limits, 4096 tokens and 16 images, beside plain algorithms: ``python tests/bench/bench_packing.py``.

20,000 documents: captions (one image of 144 tokens and some twenty words), interleaved pages (images in geometric numbers, 2.5
on average, and log-normal text of 815 tokens on average) and texts; 45/45/10 by tokens and by documents (MM1 4). Fill is the
share of 4096 tokens that is not padding. Whole-set algorithms hold all documents at once; ours holds 128.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable

import numpy as np

from mm1.data.load.packing import PackingLimits, pack

LIMITS = PackingLimits(sequence_length=4096, max_images=16, image_tokens=144)
SHARES = np.array([0.45, 0.45, 0.10])
Documents = list[tuple[int, int]]
"""Tokens and images of each document."""


def documents(count: int, by: str, seed: int = 0) -> Documents:
    """A mixture of documents, with shares of tokens or of documents."""
    random = np.random.default_rng(seed)
    image = LIMITS.image_tokens + 2  # an image's tokens and its borders
    captions = image + np.clip(random.lognormal(3.0, 0.6, count), 5, 256).astype(int)
    pictures = np.minimum(random.geometric(0.4, count), LIMITS.max_images)
    words = np.clip(random.lognormal(6.35, 0.85, count), 30, 100_000).astype(int)
    pages = np.minimum(pictures * image + words, LIMITS.sequence_length)
    texts = np.clip(random.lognormal(6.2, 1.2, count), 20, LIMITS.sequence_length).astype(int)
    means = np.array([captions.mean(), pages.mean(), texts.mean()])
    weights = SHARES / means if by == "tokens" else SHARES
    kinds = random.choice(3, count, p=weights / weights.sum())
    tokens = np.choose(kinds, [captions, pages, texts])
    images = np.choose(kinds, [np.ones(count, int), pictures, np.zeros(count, int)])
    return list(zip(tokens.tolist(), images.tolist(), strict=True))


class Bins:
    """Open sequences; what the plain algorithms share."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.images: list[int] = []

    def fits(self, place: int, tokens: int, images: int) -> bool:
        """Whether a document fits into a sequence."""
        return self.tokens[place] + tokens <= LIMITS.sequence_length and self.images[place] + images <= LIMITS.max_images

    def put(self, place: int | None, tokens: int, images: int) -> None:
        """Put a document into a sequence, or into a new one."""
        if place is None:
            self.tokens.append(tokens)
            self.images.append(images)
        else:
            self.tokens[place] += tokens
            self.images[place] += images


def next_fit(found: Documents) -> int:
    """Sequences, when only the last one is open."""
    bins = Bins()
    for document in found:
        last = len(bins.tokens) - 1
        bins.put(last if last >= 0 and bins.fits(last, *document) else None, *document)
    return len(bins.tokens)


def first_fit(found: Documents) -> int:
    """Sequences, when all stay open and the first that fits is taken."""
    bins = Bins()
    for document in found:
        bins.put(next((place for place in range(len(bins.tokens)) if bins.fits(place, *document)), None), *document)
    return len(bins.tokens)


def best_fit_decreasing(found: Documents, buffer: int = 2_048) -> int:
    """Sequences, when buffers of documents are packed one by one, longest first, each into the fullest that fits."""
    total = 0
    for start in range(0, len(found), buffer):
        bins = Bins()
        for document in sorted(found[start : start + buffer], reverse=True):
            fitting: Iterable[int] = (place for place in range(len(bins.tokens)) if bins.fits(place, *document))
            bins.put(max(fitting, key=bins.tokens.__getitem__, default=None), *document)
        total += len(bins.tokens)
    return total


def ours(found: Documents) -> int:
    """Sequences of the mixture's packing."""
    tokens, images = np.array(found).T
    return sum(1 for _ in pack(tokens, images, LIMITS))


def main() -> None:
    """Pack both mixtures by all algorithms, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    options = parser.parse_args()
    algorithms: dict[str, Callable[[Documents], int]] = {
        "ours, pool of 128": ours,
        "next fit": next_fit,
        "first fit, all open": first_fit,
        "best fit decreasing, 2048": best_fit_decreasing,
    }
    print(f"{'':28} {'by tokens':>20} {'by documents':>22}")
    mixtures = {by: documents(options.documents, by) for by in ("tokens", "documents")}
    for name, algorithm in algorithms.items():
        cells = []
        for found in mixtures.values():
            started = time.perf_counter()
            sequences = algorithm(found)
            microseconds = (time.perf_counter() - started) / len(found) * 1e6
            fill = sum(tokens for tokens, _ in found) / sequences / LIMITS.sequence_length
            cells.append(f"{fill:.4f} {microseconds:6.1f} us/doc")
        print(f"{name:28} {cells[0]:>20} {cells[1]:>22}")


if __name__ == "__main__":
    main()
