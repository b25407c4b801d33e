"""Configuration of a training run: the sections of :class:`RunConfig`, and the job that a trainer process reads.

A recipe (:mod:`mm1.recipes`) returns a whole ``RunConfig``; overrides change it; the checkpoint's manifest stores the resolved
one. Torch-free, so that a step or the command line can read and check it quickly::

    recipe -> RunConfig -> overrides -> TrainJob (config + addresses) -> run.json -> python -m mm1.train --config run.json
"""

from __future__ import annotations

import math
import re
from operator import not_
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mm1.config.base import Config

Stage = Literal["text", "vision", "pretrain", "sft"]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=2**20)]
"""Size of a dimension of a tensor."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Number of stacked layers."""
Heads = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=2**14)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Multiplier of a loss or a rate."""
DecayRate = Annotated[float, Field(ge=0, lt=1)]
Mean = Annotated[float, Field(ge=0, le=1)]
"""Mean of pixels in 0..1."""
Deviation = Annotated[float, Field(ge=1e-3, le=1)]
"""Standard deviation of pixels in 0..1."""
COLLECTIVE_TIMEOUT_S = 300.0
MAX_LR = 1e30
"""Fits float32 even times any factor; such rates serve to test how a run that diverges behaves."""


class VisionConfig(Config):
    """A fresh vision tower: the CLIP ViT of transformers. The mixture sets its image size."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Attention heads; must divide the width."""
    ffn_size: Width
    """Width of the feed-forward layer."""
    patch_size_px: Pixels
    """Side of a square patch in pixels; must divide the image size."""
    image_mean: tuple[Mean, Mean, Mean] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted from each channel of pixels in 0..1; CLIP's values by default."""
    image_std: tuple[Deviation, Deviation, Deviation] = (0.26862954, 0.26130258, 0.27577711)
    """Divides each channel after the subtraction; CLIP's values by default."""

    @model_validator(mode="after")
    def _check(self) -> VisionConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide hidden_size={self.hidden_size}")
        return self


class ConnectorConfig(Config):
    """The vision-language connector (MM1 3.2). The mixture sets the number of image tokens."""

    type: Literal["average_pool", "attention_pool", "c_abstractor"] = "c_abstractor"
    """Name of the connector; the default is MM1's choice."""
    hidden_size: Width = 1024
    """Width of the C-Abstractor."""
    depth: Depth = 3
    """RegNet blocks before the pooling of the C-Abstractor, and the same number after it."""
    mlp_depth: Depth = 2
    """Linear layers at the end of the C-Abstractor."""
    num_heads: Heads = 16
    """Heads of the attention pool."""


class DecoderConfig(Config):
    """A fresh decoder: Qwen3, or Qwen3-MoE with experts. The mixture's tokenizer sets its vocabulary."""

    hidden_size: Width
    """Width."""
    num_layers: Depth
    """Transformer blocks."""
    num_heads: Heads
    """Query heads."""
    num_kv_heads: Heads
    """Key-value heads; must divide the query heads."""
    head_size: int = Field(ge=2, le=4096, multiple_of=2)
    """Width of one head."""
    ffn_size: Width
    """Inner width of the dense gated feed-forward layer."""
    vocab_size: int = Field(default=0, ge=0, le=2**24)
    """Rows of the token embedding; 0 = the size of the tokenizer. More rows are padding, fewer are refused."""
    tie_embeddings: bool = False
    """Whether the output layer shares the weight of the token embedding."""
    rope_theta: float = Field(default=10_000.0, ge=1, le=1e12)
    """Base of the rotary position frequencies."""
    max_positions: int = Field(default=4096, ge=1, le=2**31 - 1)
    """Maximum sequence length of the decoder in tokens."""
    init: Literal["normal", "unit"] = "normal"
    """Initialisation. normal: standard deviation 0.02 for all weights, for widths of a thousand and more; unit: embeddings with
    standard deviation 1, matrices uniform within 1 / sqrt(inputs), which gives narrow decoders activations of size 1."""
    num_experts: int = Field(default=0, ge=0, le=4096)
    """Experts of a sparse layer; 0 = dense decoder."""
    experts_per_token: int = Field(default=2, ge=1, le=4096)
    """Experts that each token is routed to (MM1 3.4: top-2)."""
    expert_ffn_size: int = Field(default=0, ge=0, le=2**20)
    """Inner width of one expert; 0 = the width of the dense layer."""
    sparse_every: Depth = 2
    """Every n-th layer is sparse (MM1 3.4: 2 or 4)."""
    balance_loss_weight: Weight = 0.01
    """Weight of the router's balance loss (MM1 3.4)."""
    z_loss_weight: Weight = 0.001
    """Weight of the router's z-loss (MM1 3.4)."""

    @model_validator(mode="after")
    def _check(self) -> DecoderConfig:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}")
        if self.num_experts and self.experts_per_token > self.num_experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} is above num_experts={self.num_experts}")
        if self.num_experts and self.sparse_every > self.num_layers:
            raise ValueError(f"sparse_every={self.sparse_every} leaves no sparse layer among num_layers={self.num_layers}")
        return self


class ClipConfig(Config):
    """Contrastive pre-training of the vision tower (CLIP, arXiv 2103.00020).

    All parts of this section are temporary: the published model lacks them.
    """

    embedding_size: Width
    """Width of the space in which images and captions are compared."""
    text_hidden_size: Width
    """Width of the text tower."""
    text_layers: Depth
    """Transformer blocks of the text tower."""
    text_heads: Heads
    """Attention heads of the text tower; must divide its width."""
    text_length: int = Field(default=77, ge=2, le=2**16)
    """Tokens of a caption that the text tower reads, its end included; the rest is cut (77 in CLIP)."""
    temperature: float = Field(default=0.07, gt=0, le=1)
    """Divisor of the cosine similarities at the first step; it is learned, and does not fall below 0.01, as in CLIP."""

    @model_validator(mode="after")
    def _check(self) -> ClipConfig:
        if self.text_hidden_size % self.text_heads:
            raise ValueError(f"text_heads={self.text_heads} does not divide text_hidden_size={self.text_hidden_size}")
        return self


class AimConfig(Config):
    """Pre-training of the vision tower by predicting the next patch (AIM, arXiv 2401.08541).

    The head is temporary: the published model lacks it.
    """

    head_layers: Depth = 12
    """MLP blocks of the head, as wide as the tower (12 in AIM)."""


class ModelConfig(Config):
    """Shapes of the fresh parts. None = the part comes from `init` or from a given folder."""

    vision: VisionConfig | None = None
    """Vision tower."""
    connector: ConnectorConfig | None = None
    """Connector; a fresh tower needs a fresh connector."""
    decoder: DecoderConfig | None = None
    """Language model."""
    clip: ClipConfig | None = Field(default=None, exclude_if=not_)
    """Temporary parts of stage vision that learn which caption belongs to which image."""
    aim: AimConfig | None = Field(default=None, exclude_if=not_)
    """Temporary parts of stage vision that predict the pixels of the next patch."""

    @property
    def objectives(self) -> list[str]:
        """Names of the sections that define an objective of stage vision."""
        return [name for name in ("clip", "aim") if getattr(self, name) is not None]


class OptimConfig(Config):
    """Optimizer."""

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    """adamw: for all tensors; adafactor: the optimizer of the paper's SFT (MM1 4), a row and a column of state for each matrix;
    muon: for the matrices of the blocks, with adamw for the rest (ZeRO stages 0 to 2)."""
    lr: float | Literal["law"] = "law"
    """Peak learning rate; law = exp(-0.4214 ln N - 0.5535) for N non-embedding parameters of the decoder (MM1 3.3)."""
    vision_lr_factor: Weight = 1.0
    """Learning-rate multiplier of the vision tower."""
    connector_lr_factor: Weight = 1.0
    """Learning-rate multiplier of the connector."""
    decoder_lr_factor: Weight = 1.0
    """Learning-rate multiplier of decoder, embeddings and output layer."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
    """AdamW's decay rates."""
    eps: float = Field(default=1e-8, gt=0, le=1)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.1, ge=0, le=1000)
    """Each step shrinks weights by this times the learning rate (MM1 3.3: 0.1 lr), except norms and biases."""
    momentum: DecayRate = 0.95
    """Muon's momentum."""
    parameter_scale: bool = False
    """Adafactor's meaning of the learning rate. false: absolute, updates of at most that size, as AdamW's; true: relative to
    the root mean square of each tensor's weights, at least 0.001 (AXLearn's multiply_by_parameter_scale, without a default)."""
    first_moment: DecayRate = 0.0
    """Adafactor's decay rate of the mean of updates; 0 = no mean, and no memory for it."""
    clip: float = Field(default=1.0, ge=0, le=1e9)
    """Maximum norm of the whole gradient; 0 = no clipping."""
    spike_window: int = Field(default=128, ge=0, le=2**20)
    """Steps that the band of loss and gradient norm is computed from. A step above the band does not update the weights. Steps
    are checked once there are that many; 0 = no check."""
    spike_sigmas: float = Field(default=6.0, gt=0, le=1e6)
    """Upper end of the band: mean plus this many standard deviations of the last spike_window steps."""
    spike_limit: int = Field(default=8, ge=0, le=2**20)
    """Maximum number of steps above the band within spike_window steps; more end the run as diverged."""

    @field_validator("lr", mode="before")
    @classmethod
    def _check_lr(cls, lr: Any) -> Any:
        is_number = isinstance(lr, int | float) and not isinstance(lr, bool)
        if lr != "law" and not (is_number and 0 <= lr <= MAX_LR):
            raise PydanticCustomError("lr", f"Expected law or a number from 0 to {MAX_LR:g}")
        return lr


class ScheduleConfig(Config):
    """Learning rate over steps or tokens: linear warm-up, then one of three shapes."""

    shape: Literal["cosine", "wsd", "constant"] = "cosine"
    """cosine: falls from the end of the warm-up to the end of the run (MM1 3.3). wsd (warm-up, stable, decay; MiniCPM,
    arXiv 2404.06395): stays at the peak and falls at the end. constant: stays at the peak; a later run with shape=wsd can
    continue it and add the decay."""
    unit: Literal["steps", "tokens"] = "steps"
    """Unit of progress. tokens: the run also ends after total_tokens, if that comes before train.steps."""
    warmup_tokens: int = Field(default=0, ge=0)
    """Tokens of the warm-up, padding excluded; for unit=tokens."""
    total_tokens: int = Field(default=0, ge=0)
    """Tokens of the whole run, padding excluded; for unit=tokens."""
    warmup_steps: int = Field(default=2000, ge=0)
    """Steps of the warm-up (MM1 3.3: 2,000). With shape=cosine at most a tenth of all steps; otherwise exactly this number, so
    that a run that is continued has the same warm-up."""
    decay_share: float = Field(default=0.1, gt=0, le=1)
    """Decay of shape=wsd as a share of all steps or tokens; MiniCPM takes a tenth, arXiv 2405.18392 10 to 20 %."""
    decay_steps: int = Field(default=0, ge=0)
    """Steps of the decay of shape=wsd; 0 = decay_share of train.steps. For unit=steps."""
    decay_tokens: int = Field(default=0, ge=0)
    """Tokens of the decay of shape=wsd, padding excluded; 0 = decay_share of total_tokens. For unit=tokens."""
    decay_curve: Literal["1-sqrt", "linear"] = "1-sqrt"
    """Curve of the decay of shape=wsd. 1-sqrt falls quickly at first, and gives lower losses than linear (arXiv 2405.18392)."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step as a share of the peak, for cosine (MM1 3.3: 10 %) and wsd."""

    def check(self, steps: int) -> None:
        """Refuse a warm-up and a decay that do not fit into a run of ``steps`` steps.

        Raises:
            ValueError: they are longer than the run, or a field has no effect.
        """
        if self.unit == "tokens" and self.total_tokens <= self.warmup_tokens:
            raise ValueError(
                f"schedule.unit=tokens needs schedule.total_tokens ({self.total_tokens}) above schedule.warmup_tokens "
                f"({self.warmup_tokens})"
            )
        unused = "decay_steps" if self.unit == "tokens" else "decay_tokens"
        if getattr(self, unused):
            raise ValueError(f"schedule.{unused} has no effect with schedule.unit={self.unit}: set schedule.decay_{self.unit}")
        if self.unit == "steps" and (ignored := [name for name in ("warmup_tokens", "total_tokens") if getattr(self, name)]):
            raise ValueError(f"schedule.{ignored[0]} has no effect with schedule.unit=steps: set schedule.unit=tokens")
        if self.shape != "wsd":
            if length := self.decay_steps or self.decay_tokens:
                raise ValueError(f"schedule.decay_{self.unit}={length} needs schedule.shape=wsd")
            return
        name, total = ("total_tokens", self.total_tokens) if self.unit == "tokens" else ("steps", steps)
        warmup, decay = getattr(self, f"warmup_{self.unit}"), self.decay(steps)
        if warmup + decay > total:
            section = "schedule" if self.unit == "tokens" else "train"
            raise ValueError(
                f"schedule.warmup_{self.unit}={warmup} and a decay of {decay} {self.unit} exceed {section}.{name}={total}: "
                f"set a smaller schedule.warmup_{self.unit}, schedule.decay_{self.unit} or schedule.decay_share"
            )

    def decay(self, steps: int) -> int:
        """Return the length of the decay of shape=wsd, in `unit`, for a run of ``steps`` steps."""
        total = self.total_tokens if self.unit == "tokens" else steps
        return int(getattr(self, f"decay_{self.unit}")) or max(1, round(self.decay_share * total))


class TrainConfig(Config):
    """The steps of a run, and their layout over processes."""

    steps: Count
    """Optimizer steps."""
    global_batch: int = Field(ge=1, le=2**20)
    """Sequences of one step over all processes, whatever their number."""
    micro_batch: Count
    """Maximum number of sequences in one forward pass of a process; gradient accumulation follows from it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the arithmetic; master weights are always float32. With bfloat16 they are the model's own weights at
    zero_stage=0 (autocast), and partitioned over processes at higher stages."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype in which gradients are summed over processes. bfloat16 sends half the bytes and rounds at every process that a sum
    passes: with 512 of them the sum is off by 2 % of its norm. Accumulation is float32 always."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """ZeRO stage: partitions over processes 1 the optimizer state, 2 also the gradients, 3 also the weights."""
    offload: Literal["none", "optimizer"] = "none"
    """optimizer: keep the optimizer state, and run its step, on the host; needs zero_stage 1, 2 or 3."""
    expert_parallel: int = Field(default=1, ge=1, le=4096)
    """Processes that share the experts of a sparse layer, each with its own part; must divide processes and experts."""
    balance_over: Literal["global_batch", "micro_batch"] = "global_batch"
    """Batch of the router losses. global_batch: the sequences of a step, whatever its layout, so that experts can specialise
    by source (arXiv 2501.11873); with accumulation it costs one more forward pass. micro_batch: one forward pass of one
    process, as in GShard; depends on train.micro_batch and the number of processes."""
    checkpoint_every: Count
    """Steps between two checkpoints to resume from."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between two validations, which compute the loss of each source on its held-out samples; 0 = none. The mixture must
    hold out samples (`holdout` of data_mix)."""
    validation_sequences: Count = 64
    """Maximum number of held-out sequences per source; the ranks keep them in memory, each its share."""
    keep_checkpoints: Count = 2
    """Number of checkpoints to keep for resuming; with more than one, a damaged checkpoint costs only the steps since the
    previous one."""
    keep_state: bool = False
    """Publish the finished checkpoint with its trainer state, so that a later run can continue it with more steps (input
    `resume`). AdamW's takes 8 bytes per trained parameter, and 4 more with float32 master weights next to bfloat16 ones."""
    restart_data: bool = False
    """With the input `resume`: start at the beginning of the mixture, which may be another one. Otherwise the data goes on at
    the position of the checkpoint, and the mixture must be the same."""
    frozen: tuple[str, ...] = ()
    """Regular expressions; a parameter is not trained if one of them matches anywhere in its name."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    loader_workers: int = Field(default=0, ge=0, le=1024)
    """Processes per rank that read and decode; 0 = a thread of the rank, which is enough for small images."""
    collective_timeout_s: float = Field(default=COLLECTIVE_TIMEOUT_S, ge=1, le=86_400)
    """Seconds after which a collective has failed: ranks wait no longer for one that does not arrive. Waiting for storage does
    not count."""
    seed: int = Field(default=0, ge=0)
    """Random seed of fresh weights and of dropout."""
    profile: str = Field(default="", pattern=r"^(\d{1,18}(-\d{1,18})?)?$", coerce_numbers_to_str=True)
    """Steps that rank 0 profiles, for example 10-13 (both included); empty = none."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise ValueError("offload=optimizer needs zero_stage=1, 2 or 3, which partition the optimizer state")
        if self.expert_parallel > 1 and self.zero_stage == 0:
            raise ValueError("expert_parallel above 1 needs zero_stage=1, 2 or 3")
        return self

    @field_validator("frozen")
    @classmethod
    def _check_frozen(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns

    @property
    def profiled(self) -> tuple[int, int]:
        """First and last step of the trace; zeros for none."""
        first, _, last = self.profile.partition("-")
        return int(first or 0), int(last or first or 0)

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, text: str) -> str:
        first, _, last = text.partition("-")
        if text and not 1 <= int(first) <= int(last or first):
            raise ValueError(f"expected a step from 1, or two in ascending order such as 10-13, got {text}")
        return text


class SequenceConfig(Config):
    """Sequences that a recipe expects; checked against the mixture of a run."""

    length: int = Field(ge=1, le=2**24)
    """Tokens per sequence (MM1 3.3: 4096; 2048 in SFT)."""
    max_images: int = Field(ge=1, le=2**16)
    """Maximum number of images per sequence (MM1 3.3: 16)."""
    image_size_px: Pixels
    """Side of an image in pixels (MM1 3.3: 378)."""
    image_tokens: int = Field(ge=1, le=2**14)
    """Tokens per image, a square number (MM1 3.2: 144)."""

    @field_validator("image_tokens")
    @classmethod
    def _check_image_tokens(cls, number: int) -> int:
        if math.isqrt(number) ** 2 != number:
            raise ValueError(f"expected a square number such as 64 or 144, got {number}")
        return number


class LogConfig(Config):
    """Logging of a run in progress."""

    progress_every_s: float = Field(default=0.5, gt=0, le=86_400)
    """Seconds between two progress lines of rank 0."""
    wandb: Literal["off", "offline", "online"] = "offline"
    """Weights & Biases. offline: write files for `wandb sync`; online: send rows at once, which needs a wandb login."""


class RunConfig(Config):
    """A whole training run; recipes return it, and checkpoints store it."""

    recipe: str
    """Name of the recipe."""
    stage: Stage
    """text: language model alone; vision: vision tower alone; pretrain: the mixture; sft: instructions."""
    model: ModelConfig
    """Shapes of fresh parts."""
    optim: OptimConfig
    """Optimizer."""
    schedule: ScheduleConfig
    """Learning-rate schedule."""
    train: TrainConfig
    """Steps, batch, precision, checkpoints."""
    sequence: SequenceConfig | None = None
    """Sequences that the mixture must have; None = any."""
    log: LogConfig = LogConfig()
    """Progress and Weights & Biases."""

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        self.schedule.check(self.train.steps)
        self._check_vision()
        if self.optim.name == "adafactor" and self.train.expert_parallel > 1:
            # Shared experts have gate and up apart, whose columns have statistics of their own.
            raise ValueError("optim.name=adafactor needs train.expert_parallel=1: set that, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage == 3:
            raise ValueError("optim.name=muon needs whole matrices: set train.zero_stage=0, 1 or 2, or optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.train.dtype == "bfloat16":
            # Observed with DeepSpeed 0.19.8 at stage 2: norms and biases are not updated at all.
            raise ValueError("optim.name=muon with train.dtype=bfloat16 needs train.zero_stage=0")
        if self.optim.name == "muon" and self.train.expert_parallel > 1:
            raise ValueError("optim.name=muon with train.expert_parallel above 1 is not supported: set optim.name=adamw")
        if self.optim.name == "muon" and self.train.zero_stage > 0 and self.optim.clip > 0:
            # At these stages DeepSpeed orthogonalises before it clips, so clipping scales the finished updates.
            raise ValueError("optim.name=muon with train.zero_stage=1 or 2 needs optim.clip=0: set that, or train.zero_stage=0")
        return self

    def _check_vision(self) -> None:
        objectives = self.model.objectives
        if self.stage != "vision":
            if objectives:
                raise ValueError(f"model.{objectives[0]} has no effect in stage {self.stage}, only in stage vision")
            return
        if len(objectives) != 1:
            raise ValueError(f"stage vision needs one of model.clip and model.aim, got {' and '.join(objectives) or 'none'}")
        if self.optim.lr == "law":
            raise ValueError("optim.lr=law is fitted for language models: set a number in stage vision")
        if self.train.zero_stage == 3 or self.train.expert_parallel > 1:
            raise ValueError("stage vision needs train.zero_stage=0, 1 or 2 and train.expert_parallel=1")


LAYOUT_FIELDS = (
    "micro_batch",
    "zero_stage",
    "expert_parallel",
    "offload",
    "gradient_checkpointing",
    "loader_workers",
    "collective_timeout_s",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_state",
    "validate_every",
    "validation_sequences",
    "profile",
)
"""Fields of the section ``train`` that affect the layout or the observation of a run, but not its result."""


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
    code: str = ""
    """Digest of the code; a run that resumes with different code logs a warning."""
    folder: str
    """Local folder for result.json, error files and scratch."""
    threads: int = Field(default=0, ge=0)
    """Threads of one process; 0 = torch's default."""

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
