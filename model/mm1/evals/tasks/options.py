"""Questions with lettered options, in the form that LLaVA-1.5's benchmarks use; answered by a letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mm1.evals.items import Item
from mm1.evals.metrics.options import option_letter

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER_ONLY = "Answer with the option's letter from the given choices directly."
"""Instruction of the chat style."""


def lettered(item: Item) -> str:
    """Write the question, after its context if it has one, with one line per option."""
    lines = [item.field("context"), item.question]
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False)]
    return "\n".join(line for line in lines if line)


def chosen_letter(prediction: str, item: Item) -> str:
    """Return the letter of the option that an answer names; empty if it names none."""
    return option_letter(prediction, item.options)


def letter_accuracy(predictions: Sequence[str], items: Sequence[Item]) -> list[float]:
    """Score 1 if the letter is right."""
    return [float(prediction in item.references) for prediction, item in zip(predictions, items, strict=True)]


def group_accuracy(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Compute the share of groups of items whose answers are all right, such as all rotations of a question's options."""
    right: dict[str, bool] = {}
    for value, item in zip(letter_accuracy(predictions, items), items, strict=True):
        right[item.cluster] = right.get(item.cluster, True) and value == 1.0
    return sum(right.values()) / len(right)


def accuracy_of(keep: Callable[[Item], bool]) -> Callable[[Sequence[str], Sequence[Item]], float]:
    """Return the accuracy over the items that a condition keeps; NaN if it keeps none."""

    def metric(predictions: Sequence[str], items: Sequence[Item]) -> float:
        kept = [(p, item) for p, item in zip(predictions, items, strict=True) if keep(item)]
        values = letter_accuracy([p for p, _ in kept], [item for _, item in kept])
        return sum(values) / len(values) if values else float("nan")

    return metric


def letter_of(index: int) -> str:
    """Return the letter of an option.

    Raises:
        ValueError: there are more options than letters, or the index is negative.
    """
    if not 0 <= index < len(LETTERS):
        raise ValueError(f"option {index} has no letter: expected 0 to {len(LETTERS) - 1}")
    return LETTERS[index]
