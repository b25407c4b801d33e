"""Metrics of items: the functions of this package on predictions and items, as tasks take them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from mm1.evals.items import Item
from mm1.evals.metrics.bleu import bleu
from mm1.evals.metrics.cider_d import cider_d
from mm1.evals.metrics.content_words import caption_f1
from mm1.evals.metrics.evalai import evalai_accuracy
from mm1.evals.metrics.exact_match import exact_match, literal_match, prefix_match
from mm1.evals.metrics.rouge_l import rouge_l
from mm1.evals.metrics.vqa import normalise, vqa_accuracy
from mm1.evals.metrics.yes_no import COGNITION, PERCEPTION, mme_scores, mme_total

ItemMetric = Callable[[Sequence[str], Sequence[Item]], list[float]]
"""Predictions and items -> one value per item; the score is their mean."""
CorpusMetric = Callable[[Sequence[str], Sequence[Item]], float]
"""Predictions and items -> one value of all of them, such as an F1."""


def per_item(metric: Callable[[str, Sequence[str]], float]) -> ItemMetric:
    """Turn a metric of a prediction and its references into a metric of items."""

    def of_items(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
        return [metric(prediction, item.references) for prediction, item in zip(predictions, items, strict=True)]

    return of_items


def of_captions(metric: Callable[[Sequence[str], Sequence[Sequence[str]]], list[float]]) -> ItemMetric:
    """Turn a metric of captions and the references of their images into a metric of items."""
    return lambda predictions, items: metric(predictions, [item.references for item in items])


accuracy = per_item(vqa_accuracy)
textvqa_accuracy = per_item(evalai_accuracy)
exact_accuracy = per_item(exact_match)
literal_accuracy = per_item(literal_match)
continuation_accuracy = per_item(prefix_match)
content_f1 = per_item(caption_f1)
cider = of_captions(cider_d)
rouge = of_captions(rouge_l)


def first_words_accuracy(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Score 1 if the continuation begins with the answer, as in LAMBADA; more text may follow it."""
    values = []
    for prediction, item in zip(predictions, items, strict=True):
        beginning = " ".join(prediction.split()[: len(item.answer.split())])
        values.append(float(normalise(beginning) == normalise(item.answer)))
    return values


def bleu_of_order(n: int) -> CorpusMetric:
    """Return corpus BLEU with n-grams up to an order of 1 to 4."""
    return lambda predictions, items: bleu(predictions, [item.references for item in items])[n - 1]


def mme_perception(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Compute the sum of MME's scores in perception, 0 to 2000; an item's type is its subtask, its cluster the image."""
    return mme_total(_mme(predictions, items), PERCEPTION)


def mme_cognition(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Compute the sum of MME's scores in cognition, 0 to 800; an item's type is its subtask, its cluster the image."""
    return mme_total(_mme(predictions, items), COGNITION)


def _mme(predictions: Sequence[str], items: Sequence[Item]) -> dict[str, float]:
    labels, images, subtasks = zip(*((item.answer, item.cluster, item.question_type) for item in items), strict=True)
    return mme_scores(predictions, labels, images, subtasks)


def chance_level(items: Sequence[Item], demonstrations: Sequence[Item]) -> float | None:
    """Compute the accuracy of guessing.

    For items with choices or lettered options: one over their number. For others: the accuracy of the most frequent answer of
    their question type, counted on the demonstrations of the type, or on the items themselves if there are none.
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
        if choices := item.choices or item.options:
            values.append(1 / len(choices))
        else:
            ((guess, _),) = counts[item.question_type].most_common(1)
            values.append(vqa_accuracy(guess, item.references))
    return fmean(values) if values else None
