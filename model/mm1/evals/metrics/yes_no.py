"""Answers yes or no: POPE (Li et al. 2023) and the pairs of MME (Fu et al. 2023)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

YesNo = Literal["yes", "no"]

PERCEPTION = (*("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def pope_answer(prediction: str) -> YesNo:
    """Parse an answer as POPE does: no if its first sentence has the word no or not, else yes."""
    words = prediction.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def mme_answer(prediction: str) -> YesNo | None:
    """Parse an answer as MME does: yes or no within the first four characters; None is always wrong."""
    beginning = prediction.strip().lower()[:4]
    return "yes" if "yes" in beginning else "no" if "no" in beginning else None


@dataclass(frozen=True)
class BinaryScores:
    """Scores of yes-no answers, 0 to 1; yes is the positive class."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_share: float
    """Share of the answers that are yes."""


def pope_scores(predictions: Sequence[str], labels: Sequence[str]) -> BinaryScores:
    """Score generated answers as POPE does; a precision or recall without any case is 0.

    Raises:
        ValueError: there is no answer, or a label is neither yes nor no.
    """
    if not labels:
        raise ValueError("expected at least one answer, got none")
    if unknown := set(labels) - {"yes", "no"}:
        raise ValueError(f"expected the labels yes and no, got {min(unknown)!r}")
    pairs = [(pope_answer(prediction) == "yes", label == "yes") for prediction, label in zip(predictions, labels, strict=True)]
    true_positives = sum(given and expected for given, expected in pairs)
    said_yes, are_yes = sum(given for given, _ in pairs), sum(expected for _, expected in pairs)
    precision = true_positives / said_yes if said_yes else 0.0
    recall = true_positives / are_yes if are_yes else 0.0
    return BinaryScores(
        accuracy=sum(given == expected for given, expected in pairs) / len(pairs),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        yes_share=said_yes / len(pairs),
    )


def mme_scores(
    predictions: Sequence[str], labels: Sequence[str], images: Sequence[str], subtasks: Sequence[str]
) -> dict[str, float]:
    """Score each subtask of MME: accuracy plus accuracy of pairs, in percent, 0 to 200.

    Args:
        predictions: generated answers.
        labels: yes or no, in any case.
        images: the image of each question; its two questions form a pair, which is right if both answers are.
        subtasks: the subtask of each question.
    """
    rights: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for prediction, label, image, subtask in zip(predictions, labels, images, subtasks, strict=True):
        rights[subtask][image].append(mme_answer(prediction) == label.strip().lower())
    scores = {}
    for subtask, pairs in rights.items():
        answers = sum(map(len, pairs.values()))
        # Pairs are weighted by their answers, so that a bootstrap sample may hold an image twice.
        in_right_pairs = sum(len(pair) for pair in pairs.values() if all(pair))
        scores[subtask] = 100.0 * (sum(map(sum, pairs.values())) + in_right_pairs) / answers
    return scores


def mme_total(scores: dict[str, float], subtasks: Sequence[str]) -> float:
    """Sum the scores of a group of subtasks, :data:`PERCEPTION` or :data:`COGNITION`; those without questions count 0."""
    return sum(scores.get(subtask, 0.0) for subtask in subtasks)
