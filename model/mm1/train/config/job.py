"""What a trainer process reads and writes: the resolved configuration with addresses, and the result."""

from __future__ import annotations

from pydantic import Field

from mm1.config.base import Config
from mm1.monitoring.logs import LogSettings
from mm1.train.config.run import RunConfig


class Probe(Config):
    """What the ranks measure instead of training (:mod:`mm1.train.probe`); 0 leaves a measurement out."""

    reduce_mb: int = Field(default=64, ge=0)
    """Size of the all-reduced tensor, in MB."""
    store_mb: int = Field(default=64, ge=0)
    """Size of an object that is written to the store and read, in MB."""
    streams: int = Field(default=4, ge=1)
    """Concurrent objects, and readers, of a node."""
    images_s: float = Field(default=1.0, ge=0)
    """Time for which each rank decodes images, in seconds."""


class TrainJob(Config):
    """Input of a trainer process: the resolved configuration and addresses (not stored)."""

    config: RunConfig
    """The resolved run."""
    data: str
    """Address of the DataMix manifest."""
    init: str = ""
    """Address of the Checkpoint manifest to start from: its model alone."""
    resume: str = ""
    """Address of the Checkpoint manifest to continue: model, optimizer, counters and position in the data."""
    vision: str = ""
    """Local folder of a vision tower in transformers' layout."""
    decoder: str = ""
    """Local folder of a causal decoder in transformers' layout."""
    store: str
    """Address of the store for checkpoints."""
    key: str
    """Name of this work, under which it finds its own unfinished checkpoints."""
    run: str = ""
    """Name of the run, to which its device hours are counted."""
    device_hours: float | None = Field(default=None, ge=0)
    """Device hours that the run may spend on this work, all its attempts together; None = no limit."""
    code: str = ""
    """Digest of the code; a run that resumes with different code logs a warning."""
    folder: str
    """Local folder for result.json, error files and scratch."""
    threads: int = Field(default=0, ge=0)
    """Threads of one process; 0 = torch's default."""
    logs: LogSettings = Field(default=LogSettings(), exclude_if=lambda logs: logs == LogSettings())
    """Form of the log."""
    probe: Probe | None = Field(default=None, exclude_if=lambda probe: probe is None)
    """Measure the machines instead of training; `config` then has the time limits only."""

    def with_micro_batch(self, micro_batch: int) -> TrainJob:
        """Return the same job with another micro-batch; its global batch does not change."""
        train = self.config.train.model_copy(update={"micro_batch": micro_batch})
        return self.model_copy(update={"config": self.config.model_copy(update={"train": train})})


class TrainResult(Config):
    """Result of a trainer process, written to result.json."""

    manifest: str
    """Address of the finished Checkpoint."""
    steps: int
    """Optimizer steps of the whole run."""
    resumed_from: int
    """Step of the checkpoint that this process resumed from; 0 = from the beginning."""
    seconds: float
    """Wall time of this process in the training loop."""
    tokens: int
    """Tokens of this process's steps, padding excluded."""
    tokens_per_s: float
    """Tokens per second."""
    padding_share: float
    """Share of padding in the positions of those steps."""
    losses: dict[str, float]
    """Mean loss of the last steps: `all`, and each source by name."""
    validation_losses: dict[str, float] = Field(default={})
    """Source -> mean loss of its held-out samples after the last step."""
    validation_retrieval: dict[str, float] = Field(default={})
    """Source -> share of its held-out images whose caption is the most similar one; for model.clip."""
    source_tokens: dict[str, int] = Field(default={})
    """Source -> tokens of the whole run, padding excluded."""
    facts: dict[str, float | int | str]
    """Threads, processes, parameters, startup time, slowest step and so on."""
    measurements: tuple[dict[str, float | str], ...] = ()
    """Measurements of a probe, one per node."""
