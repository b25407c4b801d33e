"""Metrics of tasks, one file each: pure functions of predictions and references; `of_items` applies them to items.

Torch-free. SPICE is not among them: its scene-graph parser exists in Java only.
"""

from mm1.evals.metrics.of_items import (
    CorpusMetric,
    ItemMetric,
    accuracy,
    bleu_of_order,
    chance_level,
    cider,
    content_f1,
    continuation_accuracy,
    exact_accuracy,
    first_words_accuracy,
    literal_accuracy,
    mme_cognition,
    mme_perception,
    of_captions,
    per_item,
    rouge,
    textvqa_accuracy,
)

__all__ = [
    "CorpusMetric",
    "ItemMetric",
    "accuracy",
    "bleu_of_order",
    "chance_level",
    "cider",
    "content_f1",
    "continuation_accuracy",
    "exact_accuracy",
    "first_words_accuracy",
    "literal_accuracy",
    "mme_cognition",
    "mme_perception",
    "of_captions",
    "per_item",
    "rouge",
    "textvqa_accuracy",
]
