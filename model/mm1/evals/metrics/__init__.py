"""Metrics of tasks, one file each: pure functions of predictions and references; `of_items` applies them to items.

Torch-free. SPICE is not among them: its scene-graph parser exists in Java only.
"""

from mm1.evals.metrics.of_items import accuracy, chance_level, cider, content_f1, exact_accuracy, first_words_accuracy, per_item

__all__ = ["accuracy", "chance_level", "cider", "content_f1", "exact_accuracy", "first_words_accuracy", "per_item"]
