"""Filters and signatures of text beside the same in plain Python, on one core, in turn: ``python tests/bench/bench_text.py``.

Documents of about 600 words, 42 % of them stop words, with preset paper; reading is not counted. Both sides count words, stop
words and repetition and compute a MinHash. The plain one uses counters of strings and datasketch as they come; ours also writes
the signatures. CPU time, so that other processes matter less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from itertools import islice
from math import isqrt
from pathlib import Path

import numpy as np
from datasketch import MinHash

from mm1.data.config import preset_named
from mm1.data.prepare.filters import Filters
from mm1.data.prepare.signatures import PERMUTATIONS, SCHEME, Signatures
from mm1.data.prepare.words import PUNCTUATION, STOP_WORDS
from mm1.data.sample import Sample, TextPart

PRESET = preset_named("paper").text


def documents(count: int) -> list[str]:
    """Texts of words with Zipf's frequencies."""
    random = np.random.default_rng(0)
    letters = list("etaoinshrdlucmfwypvbgk")
    vocabulary = ["".join(random.choice(letters, random.integers(3, 11))) for _ in range(30_000)]
    frequencies = 1 / np.arange(1, len(vocabulary) + 1)
    frequencies /= frequencies.sum()
    texts = []
    for length in np.clip(random.lognormal(6, 0.9, count), 30, 8_000).astype(int):
        content, stops = random.choice(vocabulary, length, p=frequencies), random.choice(sorted(STOP_WORDS), length)
        texts.append(" ".join(np.where(random.random(length) < 0.42, stops, content).tolist()))
    return texts


def ours(texts: list[str]) -> int:
    """Return the number of texts kept."""
    filters = Filters(PRESET)
    num_kept = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Signatures(Path(folder) / "signatures.parquet", 0, PRESET.near_duplicates) as signatures,
    ):
        for text in texts:
            if kept := filters.apply(Sample("", "text", [TextPart(text)], [], {"origin": "x"})):
                signatures.add(kept)
                num_kept += 1
    return num_kept


def plain(texts: list[str]) -> int:
    """Return the number of texts kept."""
    kept, permutations = 0, MinHash(PERMUTATIONS, scheme=SCHEME).permutations
    for text in texts:
        words = text.split()
        stops = sum(word.strip(PUNCTUATION).lower() in STOP_WORDS for word in words) / max(1, len(words))
        grams = Counter(map("".join, zip(*(islice(text, start, None) for start in range(10)), strict=False)))
        most = grams.most_common(min(isqrt(len(grams)), sum(count > 1 for count in grams.values())))
        runs = Counter(zip(*(islice(words, start, None) for start in range(5)), strict=False))
        minhash = MinHash(PERMUTATIONS, permutations=permutations, scheme=SCHEME)
        minhash.update_batch(" ".join(run).lower().encode() for run in runs)
        characters = sum(count for _, count in most) / max(1, grams.total())
        repeated = sum(count for count in runs.values() if count > 1) / max(1, runs.total())
        kept += 10 <= len(words) <= 50_000 and stops >= 0.3 and characters <= 0.2 and repeated <= 0.2
    return kept


def main() -> None:
    """Measure both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = documents(options.documents)
    ours(texts)  # imports and tables
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(options.rounds):
        kept = {}
        for side, run in (("ours", ours), ("plain", plain)):
            started = time.process_time()
            kept[side] = run(texts)
            times[side].append(time.process_time() - started)
        assert kept["ours"] == kept["plain"], kept
    megabytes = sum(map(len, texts)) / 1e6
    for side, taken in times.items():
        print(f"{side:6} {megabytes / statistics.median(taken):6.1f} MB/s on one core")
    ratios = [plain / ours for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    print(f"plain / ours {statistics.median(ratios):.1f} ({', '.join(f'{ratio:.1f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
