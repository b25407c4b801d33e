"""Definition of a task: its files, its prompts and its metrics. A task is data; the harness evaluates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mm1.evals.config import Style
from mm1.evals.items import BenchmarkFolder, Item, Reader
from mm1.evals.metrics import Metric

Form = Literal["caption", "question", "text"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task."""

    name: str
    """Name of its files: <name>_questions.json, <name>.json or <name>.jsonl; demonstrations are in <name>_demo…"""
    summary: str
    """One-line description."""
    form: Form
    """Template of its prompts."""
    read: Reader
    """Reads its files."""
    metrics: dict[str, Metric]
    """Metrics by their names in reports, the headline first. For an item with choices, the likeliest choice is the answer;
    `accuracy` is then the accuracy of the choice."""
    max_new_tokens: int
    """Maximum length of an answer in tokens."""
    stop: tuple[str, ...] = ("\n",)
    """Strings that end an answer in the plain style, besides the end of the template."""
    style: Style | None = None
    """Fixed prompt style; None = the evaluation's."""
    shots: tuple[int, ...] | None = None
    """Fixed numbers of demonstrations; None = the evaluation's."""
    control_shots: tuple[int, ...] | None = None
    """Numbers of shots for the image-shuffled control; None = all."""
    right_from: float = 0.5
    """Minimum value of the headline metric for an answer that is displayed as correct."""

    @property
    def headline(self) -> str:
        """Name of the first metric in a table."""
        return next(iter(self.metrics))

    def items(self, folder: BenchmarkFolder) -> list[Item]:
        """Read the items to evaluate."""
        return self.read(folder, self.name, self.name)

    def demonstrations(self, folder: BenchmarkFolder) -> list[Item]:
        """Read the items to use as demonstrations."""
        return self.read(folder, self.name, f"{self.name}_demo")
