"""Manifests of models: checkpoints, their evaluation, and what is deployed."""

from __future__ import annotations

from operator import not_
from typing import Any, Literal

from pydantic import Field

from mm1.manifests.base import Digest, Files, Manifest, Record
from mm1.store.base import BlobRef


class Checkpoint(Manifest):
    """A model, and in unfinished training the state to resume from."""

    kind: Literal["Checkpoint"] = "Checkpoint"
    stage: str
    """text, pretrain, sft or imported."""
    recipe: str
    config: dict[str, Any]
    """The resolved RunConfig, without addresses."""
    step: int
    total_steps: int
    sequences_seen: int
    tokens_seen: int
    """Tokens of all sequences, excluding padding."""
    images_seen: int
    skipped: tuple[int, ...] = ()
    """Indices of global batches skipped because the loss or the gradient was not finite."""
    world_size: int
    num_parameters: int
    model: Files
    """Hugging Face folder: configuration, safetensors, processor and tokenizer files."""
    trainer: Files = {}
    """State to go on from: optimizer, counters, position in the data; one file per rank. A finished checkpoint has it only with
    train.keep_state."""
    final: bool = Field(False, exclude_if=not_)
    """Whether the run ended with this checkpoint; recorded if it has a trainer state, see `finished`."""
    history: BlobRef | None = None
    """Parquet of the reproducible metrics: step, lr, loss, loss per source, gradient norm."""

    @property
    def finished(self) -> bool:
        """Whether the run ended with this checkpoint."""
        return self.final or not self.trainer


class Score(Record):
    """One metric of an evaluation."""

    task: str
    split: str
    metric: str
    shots: int
    control: Literal["none", "shuffled", "text_demonstrations"] = "none"
    """shuffled: every query image is swapped with another item's; text_demonstrations: 0 shots with demonstrations without
    images."""
    value: float
    stderr: float
    """Standard error over items and draws of demonstrations (not over training seeds); items of one image are a cluster."""
    num_items: int
    chance: float | None = None
    """Score of random guessing, if known."""


class EvalReport(Manifest):
    """Few-shot evaluation of a checkpoint."""

    kind: Literal["EvalReport"] = "EvalReport"
    checkpoint: Digest
    benchmarks: Digest
    """Digest of the names and contents of the benchmark files."""
    config: dict[str, Any]
    scores: tuple[Score, ...]
    examples: BlobRef
    """JSON lines: task, shots, question, answer, prediction, correct, image (digest of an image in `images`)."""
    images: Files = {}
    samples: BlobRef | None = Field(None, exclude_if=not_)
    """Parquet of all answers (:mod:`mm1.evals.samples`), to which another model's can be compared item by item."""


class Comparison(Record):
    """A score minus the serving model's, on the same items."""

    report: Digest
    """EvalReport of the serving model."""
    value: float
    """The serving model's score."""
    difference: float
    """Mean over items."""
    stderr: float | None
    """Its standard error over clusters of items; None for one cluster."""
    low: float
    """Lower end of the 90 % interval: with 95 % confidence, the true difference is above it."""
    high: float
    """Upper end: with 95 % confidence, the true difference is below it."""
    p_value: float
    """Probability of such a difference if the model were just as bad as the rule allows."""
    num_items: int
    num_clusters: int
    smallest_effect: float | None
    """Smallest true difference that these items detect with a probability of 80 %; None for one cluster."""
    items_missing: int = Field(0, exclude_if=not_)
    """Further items that are needed to detect the rule's margin."""


class GateRule(Record):
    """One gate rule and its result."""

    rule: str
    """For example ``captions/0/content_f1 >= 0.85`` or ``captions/0/content_f1 >= serving-0.02``."""
    value: float | None
    threshold: float
    """The rule's number; in a rule about the serving model, the allowed difference."""
    passed: bool
    reason: str = ""
    report: Digest | None = Field(None, exclude_if=not_)
    """EvalReport of the checkpoint that has the score."""
    unjudged: Literal["", "not scored", "not comparable", "too few items", "first deployment"] = Field("", exclude_if=not_)
    """Why the rule could not be judged. Such a rule fails, except at a first deployment, where there is no serving model."""
    comparison: Comparison | None = Field(None, exclude_if=not_)
    """The comparison with the serving model, if the rule asks for one."""


class GateDecision(Manifest):
    """Decision whether a checkpoint may be deployed."""

    kind: Literal["GateDecision"] = "GateDecision"
    checkpoint: Digest
    decision: Literal["pass", "fail"]
    rules: tuple[GateRule, ...]
    serving: Digest | None = Field(None, exclude_if=not_)
    """Checkpoint of the serving model; None: a first deployment."""


class ExportedModel(Manifest):
    """A folder that transformers loads without extra code (safetensors only)."""

    kind: Literal["ExportedModel"] = "ExportedModel"
    checkpoint: Digest
    files: Files
    contract: dict[str, float]
    """Results of the contract test, such as the largest difference of logits from the trainer's model."""
    signature: BlobRef | None = Field(None, exclude_if=not_)
    """Signature of the files (:mod:`mm1.lineage.signing`), if there is one; it has a random part."""


class Deployment(Manifest):
    """Output of deploy: a model ready to be served, or the reason for its rejection."""

    kind: Literal["Deployment"] = "Deployment"
    deployed: bool
    reason: str
    exported: Digest | None = None
    sample: dict[str, Any] = {}
    """The chat question used to test the server: question, answer, image (digest), max_tokens, and expected if there is a right
    answer."""
    images: Files = {}


class ReportPage(Manifest):
    """An HTML report."""

    kind: Literal["ReportPage"] = "ReportPage"
    title: str
    page: BlobRef
