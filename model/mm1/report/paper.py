"""MM1's results, to compare with: few-shot after pre-training (section 4) and after supervised fine-tuning (section 5).

Scores of captions are CIDEr times 100, others are percent, MME is a sum. The paper evaluates VQAv2 and VizWiz on test-dev,
whose answers are not public; a comparison on another split is not exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table of the paper, and the score of this project that belongs to it."""

    name: str
    task: str
    metric: str
    scale: float
    """Factor from the score of this project to the paper's unit."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """The results of a model."""

    model: str
    shots: int
    values: tuple[float | None, ...]
    """One value per column; None if the paper's value is not known."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[PaperRow, ...]


def _row(model: str, shots: int, *values: float | None) -> PaperRow:
    return PaperRow(model=model, shots=shots, values=values)


PRETRAINED = PaperTable(
    title="Few-shot, pre-trained models (MM1, section 4)",
    columns=(
        Column("COCO", "coco", "cider", 100),
        Column("NoCaps", "nocaps", "cider", 100),
        Column("TextCaps", "textcaps", "cider", 100),
        Column("VQAv2", "vqav2", "accuracy", 100),
        Column("TextVQA", "textvqa", "accuracy", 100),
        Column("VizWiz", "vizwiz", "accuracy", 100),
        Column("OK-VQA", "okvqa", "accuracy", 100),
    ),
    rows=(
        _row("MM1-3B", 0, 73.5, 55.6, 63.3, 46.2, 29.4, 15.6, 26.1),
        _row("MM1-3B", 8, 114.6, 104.7, 88.8, 63.6, 44.6, 46.4, 48.4),
        _row("MM1-7B", 0, 76.3, 61.0, 64.2, 47.8, 28.8, 15.6, 22.6),
        _row("MM1-7B", 8, 116.3, 106.6, 88.2, 63.6, 46.3, 45.3, 51.4),
        _row("MM1-30B", 0, 70.3, 54.6, 64.9, 48.9, 28.2, 14.5, 24.1),
        _row("MM1-30B", 8, 123.1, 111.6, 92.9, 70.9, 49.4, 49.9, 58.3),
        _row("MM1-30B", 16, 125.3, 116.0, 97.6, 71.9, 50.6, 57.9, 59.3),
        _row("Flamingo-80B", 8, 108.8, None, None, 65.6, 37.3, 44.8, 57.5),
        _row("IDEFICS-80B", 8, 114.3, 105.7, 77.6, 64.8, 35.7, 46.1, 55.1),
        _row("Emu2-37B", 8, None, None, None, 67.8, 49.3, 54.7, 54.1),
    ),
)

TUNED = PaperTable(
    title="After supervised fine-tuning, 0 shots (MM1, section 5)",
    columns=(
        Column("VQAv2", "vqav2", "accuracy", 100),
        Column("TextVQA", "textvqa", "accuracy", 100),
        Column("SQA-I", "scienceqa", "accuracy", 100),
        Column("MMMU val", "mmmu", "accuracy", 100),
        Column("MathVista", "mathvista", "accuracy", 100),
        Column("MME-P", "mme", "mme_perception", 1),
        Column("MME-C", "mme", "mme_cognition", 1),
        Column("MMBench", "mmbench", "circular_accuracy", 100),
        Column("SEED-I", "seed", "accuracy", 100),
        Column("POPE", "pope", "f1", 100),
        Column("LLaVA-W", "llava_w", "relative_grade", 1),
        Column("MM-Vet", "mmvet", "grade", 100),
    ),
    rows=(
        _row("MM1-3B", 0, 82.0, 71.9, 69.4, 33.9, 32.0, 1482.5, 279.3, 67.8, 68.8, 87.4, 72.1, 43.7),
        _row("MM1-3B-MoE", 0, 82.5, 72.9, 76.1, 38.6, 32.6, 1469.4, 303.1, 70.8, 69.4, 87.6, 76.8, 42.2),
        _row("MM1-7B", 0, 82.8, 72.8, 72.6, 37.0, 35.9, 1529.3, 328.9, 72.3, 69.9, 86.6, 81.5, 42.1),
        _row("MM1-7B-MoE", 0, 83.4, 73.8, 74.4, 40.9, 40.9, 1597.4, 394.6, 72.7, 70.9, 87.8, 84.7, 45.2),
        _row("MM1-30B", 0, 83.7, 73.5, 81.0, 44.7, 39.4, 1637.6, 431.4, 75.1, 72.1, 87.6, 89.3, 48.7),
    ),
)

TABLES = (PRETRAINED, TUNED)
