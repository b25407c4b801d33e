"""Chain of thought: demonstrations with steps before the answer, and the answer after the steps (MM1 5)."""

from __future__ import annotations

from mm1.evals.items import Item

FINAL = "The answer is"
"""Begins the last sentence of a demonstration."""


def with_steps(item: Item) -> str:
    """Write the steps and the answer of a demonstration."""
    steps = item.field("steps").strip()
    return f"{steps} {FINAL} {item.answer}." if steps else f"{FINAL} {item.answer}."


def answer_after_steps(prediction: str) -> str:
    """Return the text after the last "The answer is"; the last line if the model did not write it."""
    for beginning in (FINAL, FINAL.lower()):
        if beginning in prediction:
            after = prediction.rpartition(beginning)[2]
            break
    else:
        lines = [line for line in prediction.splitlines() if line.strip()]
        after = lines[-1] if lines else ""
    return after.strip().lstrip(":").strip().removesuffix(".")
