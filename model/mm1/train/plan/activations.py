"""Bytes of activations that a micro-batch saves for its backward pass, and of its temporary ones.

    MM1Config, precision, Trained -> plan/saved.py -> UnitBytes: bytes that autograd saves per image, token and prediction
    UnitBytes, MicroBatch, checkpointing -> ActivationBytes

Three precisions: float32; bfloat16 weights; autocast, where the residual stream stays float32 and every product keeps a
bfloat16 copy of its input and, for the step, of its weight.

Experts are counted as `mm1_sorted` saves them, balanced over processes. DeepSpeed's layer, which replaces it if processes share
experts, also saves the rows that it sends and receives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mm1.train.config import SequenceConfig, TrainConfig

Precision = Literal["float32", "bfloat16", "autocast"]


@dataclass(frozen=True)
class MicroBatch:
    """Contents of a micro-batch of one process."""

    tokens: int
    predicted: int
    """Positions that predict a token."""
    images: int


@dataclass(frozen=True)
class BlockBytes:
    """Bytes of blocks of one kind, per unit of work."""

    number: int
    """Blocks of this kind."""
    inputs: float
    """Input of one block; with checkpointing, nothing else is saved. 0 for a block without a backward pass."""
    saved: float
    """Bytes that autograd saves in one block."""
    widest: float
    """Bytes that autograd saves in its largest layer."""
    exchanged: float
    """Rows that experts on other processes receive and send back; 0 without experts."""


@dataclass(frozen=True)
class PartBytes:
    """Bytes of a part of the model, per unit of work."""

    outside: float
    """Bytes that autograd saves outside of blocks, or that all blocks share."""
    blocks: tuple[BlockBytes, ...] = ()

    def with_widest_of(self, other: PartBytes) -> PartBytes:
        """Return the same with the largest layers of another count, except of blocks without a backward pass."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        widest = [wide.widest if block.saved else 0.0 for block, wide in pairs]
        return replace(self, blocks=tuple(replace(block, widest=size) for block, size in zip(self.blocks, widest, strict=True)))


@dataclass(frozen=True)
class UnitBytes:
    """Bytes of a model, per unit of work."""

    image: PartBytes
    """Tower and connector, per image."""
    token: PartBytes
    """Decoder, per token."""
    prediction: PartBytes
    """Output layer and loss, per position that predicts a token."""
    logits: float
    """Logits of a position with their gradients."""

    def with_widest_of(self, other: UnitBytes) -> UnitBytes:
        """Return the same with the largest layers of another count, except of blocks without a backward pass."""
        return replace(self, image=self.image.with_widest_of(other.image), token=self.token.with_widest_of(other.token))


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes of one process."""

    saved: float
    """Bytes that autograd has saved at the end of the forward pass."""
    working: float
    """Maximum of temporary bytes besides: logits with their gradients, or a block that is recomputed."""

    @property
    def peak(self) -> float:
        """Saved and temporary bytes."""
        return self.saved + self.working


def precision_of(train: TrainConfig) -> Precision:
    """Return the precision of a run."""
    return "float32" if train.dtype == "float32" else "bfloat16" if train.zero_stage else "autocast"


def fullest(sequence: SequenceConfig, sequences: int) -> tuple[MicroBatch, MicroBatch]:
    """Return the two candidates for the largest micro-batch: all images that fit, and only text (with one blank image)."""
    images = min(sequence.max_images, sequence.length // sequence.image_tokens)
    tokens = sequences * sequence.length
    return (
        MicroBatch(tokens, tokens - sequences * images * sequence.image_tokens, sequences * images),
        MicroBatch(tokens, tokens, 1),
    )


def activation_bytes(units: UnitBytes, batch: MicroBatch, checkpointing: bool, expert_parallel: int = 1) -> ActivationBytes:
    """Count the activations of one micro-batch.

    Args:
        units: of the model, in the precision of the run, with what it trains.
        batch: contents of the micro-batch.
        checkpointing: whether blocks save only their input.
        expert_parallel: number of processes that share the experts.
    """
    saved, working = 0.0, batch.predicted * units.logits
    parts = ((units.image, batch.images), (units.token, batch.tokens), (units.prediction, batch.predicted))
    for part, number in parts:
        exchanged = [block.exchanged if expert_parallel > 1 else 0.0 for block in part.blocks]
        full = [block.saved + extra for block, extra in zip(part.blocks, exchanged, strict=True)]
        kept = [block.inputs for block in part.blocks] if checkpointing else full
        saved += number * (part.outside + sum(block.number * size for block, size in zip(part.blocks, kept, strict=True)))
        if part.blocks:
            # In the backward pass the gradients of a block's largest layer are as large as its saved tensors.
            gradients = max(block.widest + extra for block, extra in zip(part.blocks, exchanged, strict=True))
            working = max(working, number * (gradients + (max(full) if checkpointing else 0.0)))
    return ActivationBytes(saved, working)
