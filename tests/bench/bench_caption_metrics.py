"""Time of CIDEr-D, BLEU and ROUGE-L for 5,000 images with 5 references, next to the published toolkit's.

``python tests/bench/bench_caption_metrics.py [FOLDER]``. FOLDER holds pycocoevalcap, unpacked (`caption_reference` says how);
without it, or without Java, only this project's times are printed. Runs of the two take turns.
"""

from __future__ import annotations

import importlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mm1.evals.metrics.bleu import bleu  # noqa: E402
from mm1.evals.metrics.cider_d import cider_d  # noqa: E402
from mm1.evals.metrics.rouge_l import rouge_l  # noqa: E402
from tests.support import caption_reference  # noqa: E402
from tests.support.caption_templates import make_captions  # noqa: E402

IMAGES, REFERENCES, ROUNDS, LIMIT_S = 5_000, 5, 5, 2.5
STEMS = ("man", "dog", "red", "big", "on", "the", "cat", "of", "a", "train")
ODD_SHARE = 0.15
"""Share of captions with a possessive, a number and the like; COCO has about as many."""


def captions() -> Iterator[str]:
    """Captions of 8 to 14 words from a vocabulary of natural size."""
    rng, odd = random.Random(0), make_captions(IMAGES * (REFERENCES + 1), seed=0)
    vocabulary = [f"{stem}{ending}" for stem in STEMS for ending in ["", *"abcdefghijklmnop"]]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    for strange in odd:
        plain = " ".join(rng.choices(vocabulary, weights, k=rng.randint(8, 14)))
        yield strange if rng.random() < ODD_SHARE else plain + rng.choice(["", ".", " ."])


def published(predictions: list[str], references: list[list[str]], module: str, name: str) -> None:
    """Tokenize and score with the toolkit."""
    tokens = iter(caption_reference.tokenize([caption for texts in references for caption in texts]))
    gold = {number: [next(tokens) for _ in texts] for number, texts in enumerate(references)}
    given = {number: [text] for number, text in enumerate(caption_reference.tokenize(predictions))}
    options = {"verbose": 0} if name == "Bleu" else {}
    getattr(importlib.import_module(f"pycocoevalcap.{module}"), name)().compute_score(gold, given, **options)


def seconds(run: Callable[[], object]) -> float:
    """Time one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Measure, and report whether CIDEr-D is within the limit."""
    sys.path += sys.argv[1:]
    missing = caption_reference.why_not_here()
    texts = list(captions())
    rows = [texts[start : start + REFERENCES + 1] for start in range(0, len(texts), REFERENCES + 1)]
    predictions, references = [" ".join([*row[1].split()[:5], *row[0].split()[5:]]) for row in rows], [row[1:] for row in rows]
    metrics: list[tuple[Callable[..., object], str, str]] = [
        (cider_d, "cider.cider", "Cider"),
        (bleu, "bleu.bleu", "Bleu"),
        (rouge_l, "rouge.rouge", "Rouge"),
    ]
    for metric, module, name in metrics:
        own, other = [], []
        for _ in range(ROUNDS):
            own.append(seconds(lambda metric=metric: metric(predictions, references)))
            if missing is None:
                other.append(seconds(lambda module=module, name=name: published(predictions, references, module, name)))
        compared = f"toolkit {statistics.median(other):.2f} s" if other else f"toolkit not measured: {missing}"
        ratio = f", {statistics.median([b / a for a, b in zip(own, other, strict=True)]):.1f} times as long" if other else ""
        print(f"{name}: {statistics.median(own):.2f} s (best {min(own):.2f}); {compared}{ratio}")
        if name == "Cider":
            print(f"  limit {LIMIT_S} s: {'met' if statistics.median(own) <= LIMIT_S else 'EXCEEDED'}")


if __name__ == "__main__":
    main()
