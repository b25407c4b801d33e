"""Metrics of tasks: predictions and items in, one value per item out. Also means with standard errors, and chance levels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean

from mm1.evals.cider import caption_words, cider_d
from mm1.evals.items import Item
from mm1.evals.vqa_answers import normalise, vqa_accuracy

_FUNCTION_WORDS = (
    "a an the and or but nor of in on at to from by for with without into onto over under as is are was were be been being "
    "am it its this that these those there here he she they them his her their we our you your i my me who which what some "
    "any has have had do does did so very just also than then"
)
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Function words, which do not describe an image."""


def accuracy(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Compute the VQA accuracy against all references."""
    return [vqa_accuracy(prediction, item.references) for prediction, item in zip(predictions, items, strict=True)]


def first_words_accuracy(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Score 1 if the continuation begins with the answer, as in LAMBADA; more text may follow it."""
    values = []
    for prediction, item in zip(predictions, items, strict=True):
        beginning = " ".join(prediction.split()[: len(item.answer.split())])
        values.append(float(normalise(beginning) == normalise(item.answer)))
    return values


def content_f1(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Compute F1 of the bags of content words, the best over the references."""
    return [
        max(_bag_f1(_content(prediction), _content(reference)) for reference in item.references)
        for prediction, item in zip(predictions, items, strict=True)
    ]


def cider(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Compute CIDEr-D of each caption."""
    return cider_d(predictions, [item.references for item in items])


def _content(text: str) -> Counter[str]:
    return Counter(word for word in caption_words(text) if word not in STOP_WORDS)


def _bag_f1(prediction: Counter[str], reference: Counter[str]) -> float:
    total = prediction.total() + reference.total()
    return 2 * (prediction & reference).total() / total if total else 1.0


def chance_level(items: Sequence[Item], demonstrations: Sequence[Item]) -> float | None:
    """Compute the accuracy of guessing.

    For items with choices: one over their number. For others: the accuracy of the most frequent answer of their question type,
    counted on the demonstrations of the type, or on the items themselves if there are none.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in demonstrations:
        counts[item.question_type][normalise(item.answer)] += 1
    demonstrated_types = set(counts)
    for item in items:
        if item.question_type not in demonstrated_types:
            counts[item.question_type][normalise(item.answer)] += 1
    values = []
    for item in items:
        if item.choices:
            values.append(1 / len(item.choices))
        else:
            ((guess, _),) = counts[item.question_type].most_common(1)
            values.append(vqa_accuracy(guess, item.references))
    return fmean(values) if values else None
