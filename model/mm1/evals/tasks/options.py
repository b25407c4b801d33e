"""Questions with lettered options, in the form that LLaVA-1.5's benchmarks use; answered by a letter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mm1.evals.items import Item
from mm1.evals.metrics import literal_accuracy
from mm1.evals.metrics.options import letters

LETTER_ONLY = "Answer with the option's letter from the given choices directly."
"""Instruction of the chat style."""


def lettered(item: Item) -> str:
    """Write the question, after its context if it has one, with one line per option."""
    lines = [item.field("context"), item.question]
    lines += [f"{letter}. {option}" for letter, option in zip(letters(len(item.options)), item.options, strict=True)]
    return "\n".join(line for line in lines if line)


def letter_of(index: int, options: Sequence[str]) -> str:
    """Return the letter of an option.

    Raises:
        ValueError: there is no such option.
    """
    if not 0 <= index < len(options):
        raise ValueError(f"answer {index} is not the index of one of {len(options)} options")
    return letters(len(options))[index]


def check_letter(answer: str, options: Sequence[str]) -> str:
    """Return the letter of the right option.

    Raises:
        ValueError: no option has it.
    """
    if answer not in letters(len(options)) or len(answer) != 1:
        raise ValueError(f"answer {answer!r} is not the letter of one of {len(options)} options")
    return answer


def group_accuracy(predictions: Sequence[str], items: Sequence[Item]) -> float:
    """Compute the share of groups of items whose answers are all right, such as all rotations of a question's options.

    A group that occurs several times, as in a bootstrap sample, counts as often.
    """
    rows: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for value, item in zip(literal_accuracy(predictions, items), items, strict=True):
        rows[item.cluster].append((item.id, value))
    weights = {group: len(answers) / len({item for item, _ in answers}) for group, answers in rows.items()}
    right = sum(weights[group] for group, answers in rows.items() if all(value for _, value in answers))
    return right / sum(weights.values())
