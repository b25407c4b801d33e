"""F1 of the content words of a caption, for captions in a small language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mm1.evals.metrics.ptb import caption_words

_FUNCTION_WORDS = (
    "a an the and or but nor of in on at to from by for with without into onto over under as is are was were be been being "
    "am it its this that these those there here he she they them his her their we our you your i my me who which what some "
    "any has have had do does did so very just also than then"
)
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Function words, which do not describe an image."""


def caption_f1(prediction: str, references: Sequence[str]) -> float:
    """Compute F1 of the bags of content words, the best over the references."""
    return max(_bag_f1(_content(prediction), _content(reference)) for reference in references)


def _content(text: str) -> Counter[str]:
    return Counter(word for word in caption_words(text) if word not in STOP_WORDS)


def _bag_f1(prediction: Counter[str], reference: Counter[str]) -> float:
    total = prediction.total() + reference.total()
    return 2 * (prediction & reference).total() / total if total else 1.0
