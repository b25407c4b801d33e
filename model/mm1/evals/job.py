"""An evaluation as a job: plan, answer the parts in one or several processes, judge. Torch-free until a model is loaded.

    job -> plan -> parts -> share of this process -> replies in a folder -> (all shares are there) -> scores

Every process writes its own plan, since prompts are quick to write and the same everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

from mm1.config.base import Config
from mm1.evals.asking import OnProgress, Part, Share, answer, parts_of, questions_of
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.grading import Judge
from mm1.evals.harness import Evaluation, judge_all
from mm1.evals.models.base import EvalModel
from mm1.evals.models.config import ModelChoice
from mm1.evals.models.load import load_model
from mm1.evals.plan import Round, plan
from mm1.evals.replies import KeptReplies


class EvalJob(Config):
    """A model, benchmark files and an evaluation."""

    model: ModelChoice
    benchmarks: str
    """Folder of the benchmark files."""
    split: str
    """Subfolder of tasks in this project's layout."""
    config: EvalConfig
    replies: str
    """Folder of the replies."""
    judge: ModelChoice | None = None
    """The model that grades free answers; None: they have no grades."""


class RunningJob:
    """A job in this process; the model is loaded when the first prompt needs it.

    Args:
        job: the job.
        rounds: its plan, if it was written already.
    """

    def __init__(self, job: EvalJob, rounds: list[Round] | None = None) -> None:
        self.job = job
        self.folder = BenchmarkFolder(Path(job.benchmarks), job.split)
        self.kept = KeptReplies(Path(job.replies), job.model.identity)
        self.model = cache(self._load)
        self._rounds = rounds

    def _load(self) -> EvalModel:
        use_device_of_rank(os.environ)
        return load_model(self.job.model)

    @cached_property
    def rounds(self) -> list[Round]:
        """The plan; the model is needed for it if similar demonstrations are chosen by its features of images.

        Raises:
            ConfigurationError: a task is unknown, a file is missing, demonstrations are too few.
            DataError: a file is damaged, or has no items.
        """
        if self.job.config.selection == "similar" and self.job.model.kind == "mm1":
            return plan(self.folder, self.job.config, self.model().embed_images)
        return self._rounds or plan(self.folder, self.job.config)

    @cached_property
    def parts(self) -> list[Part]:
        """The parts of the plan."""
        return parts_of(self.rounds)

    def answer(self, share: Share, on_progress: OnProgress) -> int:
        """Answer a share of the parts, and keep the replies; returns the number of prompts."""
        parts = share.of(self.parts)
        for _ in answer(parts, self.model, on_progress, self.kept):
            pass
        return sum(len(part.positions) for part in parts)

    def finish(self, on_progress: OnProgress) -> Evaluation:
        """Answer what is missing, and compute the scores."""
        replies = answer(self.parts, self.model, on_progress, self.kept)
        return judge_all(self.folder, self.rounds, self.parts, replies, self._judge())

    def _judge(self) -> Judge | None:
        choice = self.job.judge
        if choice is None:
            return None
        return Judge(choice.name, cache(lambda: load_model(choice)), KeptReplies(Path(self.job.replies), choice.identity))

    def missing(self) -> list[Part]:
        """Return the parts without kept replies."""
        return [part for part in self.parts if not self.kept.path(questions_of(part)).is_file()]

    @property
    def num_prompts(self) -> int:
        """Number of prompts of all parts."""
        return sum(len(part.positions) for part in self.parts)


def share_of_environment(environment: Mapping[str, str]) -> Share | None:
    """Return the share of a process that torchrun has started; None if there is one process."""
    total = int(environment.get("WORLD_SIZE", "1"))
    return Share(int(environment.get("RANK", "0")), total) if total > 1 else None


def use_device_of_rank(environment: Mapping[str, str]) -> None:
    """Use the GPU of this process's local rank, if it has one."""
    if "LOCAL_RANK" not in environment:
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(environment["LOCAL_RANK"]) % torch.cuda.device_count())
