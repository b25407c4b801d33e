"""VQA accuracy with the answer processing of EvalAI's server, as M4C and lmms-eval score TextVQA, VizWiz and OK-VQA.

It differs from the VQAv2 challenge (`vqa.py`): commas and question marks vanish, a possessive becomes a word of its own, and
answers on which all annotators agree are processed, too. OK-VQA's answers are stemmed in its files; predictions are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from mm1.evals.metrics.vqa import agreement, normalise


def process_answer(answer: str) -> str:
    """Normalise an answer for comparison."""
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalise(text.strip())


def evalai_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Compute the accuracy of one answer, 0 to 1.

    Args:
        prediction: the model's answer.
        references: the annotators' answers, usually ten.

    Raises:
        ValueError: there is no reference.
    """
    return agreement(process_answer(prediction), [process_answer(reference) for reference in references])
