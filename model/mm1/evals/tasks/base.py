"""What a task is: which files hold it, how it is asked, how answers are judged. A task is data; the harness does the work."""

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
    """Name of its files: <name>_questions.json, <name>.json or <name>.jsonl; demonstrations lie in <name>_demo…"""
    summary: str
    """One line for people."""
    form: Form
    """Template that asks it."""
    read: Reader
    """Reads its files."""
    metrics: dict[str, Metric]
    """Metrics by the name under which they are reported, the headline first. An item that names its choices is answered by
    the likeliest one; its `accuracy` is then that of choosing."""
    max_new_tokens: int
    """Limit of an answer in tokens."""
    stop: tuple[str, ...] = ("\n",)
    """Strings that end an answer in the plain style, besides what follows it in the template."""
    style: Style | None = None
    """Style that it is always asked in; None = the evaluation's."""
    shots: tuple[int, ...] | None = None
    """Its numbers of demonstrations; None = the evaluation's."""
    control_shots: tuple[int, ...] | None = None
    """Shots at which the image-shuffled control is asked too; None = all."""
    right_from: float = 0.5
    """Value of the headline metric from which an answer is shown as right."""

    @property
    def headline(self) -> str:
        """Name of the metric that a table shows first."""
        return next(iter(self.metrics))

    def items(self, folder: BenchmarkFolder) -> list[Item]:
        """The items to ask."""
        return self.read(folder, self.name, self.name)

    def demonstrations(self, folder: BenchmarkFolder) -> list[Item]:
        """The items to show as demonstrations."""
        return self.read(folder, self.name, f"{self.name}_demo")
