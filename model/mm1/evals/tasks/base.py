"""Definition of a task: its files, its prompts and its metrics. A task is data; the harness evaluates it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mm1.errors import ConfigurationError, DataError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import Style, Templates
from mm1.evals.files import Files, MissingFile
from mm1.evals.grading import Grading
from mm1.evals.items import Item
from mm1.evals.metrics import CorpusMetric, ItemMetric

log = logging.getLogger(__name__)

MAX_NAMES = 3
"""Maximum number of files to name in a message."""
Form = Literal["caption", "question", "text"]
Reader = Callable[[Files, str], list[Item]]
"""Reads a part of a task's files: a split of a benchmark, or a file name without extension in this project's layout."""
Submission = Callable[[Item, str], dict[str, object]]
"""Item and prediction -> an entry of the list that a benchmark's server takes as JSON."""


def _question(item: Item) -> str:
    return item.question


def _answer(item: Item) -> str:
    return item.answer


def _whole(prediction: str, item: Item) -> str:
    return prediction


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task."""

    name: str
    """Name of the task, and of its files or its folder."""
    summary: str
    """One-line description."""
    form: Form
    """Template of its prompts."""
    read: Reader
    """Reads its files."""
    files: tuple[str, ...] = ()
    """Official files that it reads, for `mm1 eval tasks`."""
    folder: str = ""
    """Folder of its official files in the benchmark folder, if it is not the name."""
    splits: tuple[str, ...] = ()
    """Official splits, the one to evaluate first; its files are those of the benchmark's download. Empty: the files are in this
    project's layout, <name>_questions.json, <name>.json or <name>.jsonl, with demonstrations in <name>_demo..."""
    demonstration_split: str = "train"
    """Official split of the demonstrations (MM1, appendix C: the training split). If it does not exist, or its files are
    missing, the demonstrations are the other items of the evaluated split."""
    same_type: bool = True
    """Whether demonstrations are sampled from items of the same question type."""
    balanced: bool = False
    """Whether the demonstrations of an item with choices show each choice equally often."""
    ask: Callable[[Item], str] = _question
    """The question in a prompt, for example with lettered options."""
    reply: Callable[[Item], str] = _answer
    """The answer in a demonstration, for example with the steps that lead to it."""
    extract: Callable[[str, Item], str] = _whole
    """The answer within the generated text."""
    metrics: dict[str, ItemMetric]
    """Metrics by their names in reports, the headline first. For an item with choices, the likeliest choice is the answer;
    `accuracy` is then the accuracy of the choice."""
    normalised_metrics: dict[str, ItemMetric] = field(default_factory=dict)
    """Metrics of the choice with the highest log-likelihood per character, such as `accuracy_norm`."""
    corpus_metrics: dict[str, CorpusMetric] = field(default_factory=dict)
    """Metrics that are not a mean over items; their standard errors are bootstrapped over clusters."""
    grading: Grading | None = None
    """Grading of the answers by a judge, in addition to the metrics; without a judge there are no grades."""
    max_new_tokens: int
    """Maximum length of an answer in tokens."""
    templates: Templates | None = None
    """Prompt templates of the plain style; None = the evaluation's."""
    instruction: str = ""
    """Text after the question in the chat style, such as the form of the answer."""
    stop: tuple[str, ...] = ("\n",)
    """Strings that end an answer in the plain style, besides the end of the template."""
    style: Style | None = None
    """Fixed prompt style; None = the evaluation's."""
    shots: tuple[int, ...] | None = None
    """Fixed numbers of demonstrations; None = the evaluation's."""
    control_shots: tuple[int, ...] | None = None
    """Numbers of shots for the image-shuffled control; None = all."""
    submission: Submission | None = None
    """Writes the result file that the benchmark's server takes for a test set without answers; None: there is none."""
    right_from: float = 1.0
    """Minimum value of the headline metric for an answer that is displayed as correct; values between 0 and it are partly
    correct."""

    @property
    def headline(self) -> str:
        """Name of the first metric in a table."""
        return next(iter(self.metric_names))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all metrics."""
        grades = self.grading.metric_names if self.grading else ()
        return (*self.metrics, *self.normalised_metrics, *grades, *self.corpus_metrics)

    def split(self, benchmarks: BenchmarkFolder, named: str | None) -> str:
        """Return the split to evaluate: the one named, the benchmark's own, or that of the evaluation.

        Raises:
            ConfigurationError: the task has no official splits, and another one than the evaluation's is named.
        """
        if named and not self.splits and named != benchmarks.split:
            raise ConfigurationError(
                f"task {self.name}: its split is the evaluation's, {benchmarks.split!r}, got {named!r}: set the split instead "
                "(--split)"
            )
        return named or (self.splits[0] if self.splits else benchmarks.split)

    def items(self, benchmarks: BenchmarkFolder, split: str) -> list[Item]:
        """Read the items to evaluate.

        Raises:
            ConfigurationError: the benchmark has no such split, or a file is missing.
            DataError: a file is damaged or has no items, or two items have one id.
        """
        if self.splits and split not in self.splits:
            raise ConfigurationError(f"task {self.name}: no split {split!r}; known: {', '.join(self.splits)}")
        files = self._official_files(benchmarks) if self.splits else benchmarks.of_split(self.name)
        items: dict[str, Item] = {}
        for item in self.read(files, split if self.splits else self.name):
            if items.setdefault(item.id, item) != item:
                raise DataError(f"task {self.name}: two items of {split} have the id {item.id!r} in {files.folder}")
        if not items:
            names = ", ".join(sorted(str(path.relative_to(files.folder)) for path in files.used)[:MAX_NAMES])
            raise DataError(f"task {self.name}: no items of {split} in {files.folder}: {names}")
        return list(items.values())

    def demonstrations(self, benchmarks: BenchmarkFolder, split: str) -> list[Item]:
        """Read the items to use as demonstrations, those with an answer.

        Without files of demonstrations they are the evaluated items; a query is never among its own demonstrations.
        """
        if self.splits:
            files, evaluated = self._official_files(benchmarks), split
            name = self.demonstration_split if self.demonstration_split in self.splits else split
        else:
            files, name, evaluated = benchmarks.of_split(self.name), f"{self.name}_demo", self.name
        try:
            items = self.read(files, name)
        except MissingFile as error:
            log.info("%s; the demonstrations are the other evaluated items", error)
            items = self.read(files, evaluated)
        return [item for item in items if item.references]

    def _official_files(self, benchmarks: BenchmarkFolder) -> Files:
        return benchmarks.of_benchmark(self.name, self.folder)
