"""Bytes of activations that a micro-batch keeps for its backward pass, and needs for the moment.

    MM1Config, precision -> plan/saved.py -> UnitBytes: what autograd saves for an image, a token, a prediction
    UnitBytes, MicroBatch, checkpointing -> ActivationBytes

Three precisions: float32; bfloat16 weights; autocast, where the residual stream stays float32 and every product keeps a
bfloat16 copy of its input and, for the step, of its weight.

Experts are counted as `mm1_sorted` keeps them, balanced over processes; DeepSpeed's layer, which takes its place where
processes share experts, also keeps the rows that it sends and receives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mm1.train.config import SequenceConfig, TrainConfig

Precision = Literal["float32", "bfloat16", "autocast"]


@dataclass(frozen=True)
class MicroBatch:
    """What one process takes at a time."""

    tokens: int
    predicted: int
    """Positions that predict a token."""
    images: int


@dataclass(frozen=True)
class BlockBytes:
    """Of blocks of one kind, for one unit of what goes through them."""

    number: int
    """Blocks of this kind."""
    inputs: float
    """Input of one block: all that is kept where blocks are checkpointed."""
    saved: float
    """What autograd saves in one block."""
    widest: float
    """The share of its widest layer."""
    exchanged: float
    """Rows that experts on other processes receive and send back; 0 without experts."""


@dataclass(frozen=True)
class PartBytes:
    """Of a part of the model, for one unit of what goes through it."""

    outside: float
    """What autograd saves outside of blocks, or what all blocks share."""
    blocks: tuple[BlockBytes, ...] = ()

    def with_widest_of(self, other: PartBytes) -> PartBytes:
        """The same with the widest layers of another precision."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        return replace(self, blocks=tuple(replace(block, widest=wide.widest) for block, wide in pairs))


@dataclass(frozen=True)
class UnitBytes:
    """Of a model."""

    image: PartBytes
    """Tower and connector, for an image."""
    token: PartBytes
    """Decoder, for a token."""
    prediction: PartBytes
    """Output layer and loss, for a position that predicts."""
    logits: float
    """Logits of a position with their gradients."""


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes of one process."""

    saved: float
    """What autograd has saved when the loss is there."""
    working: float
    """The most that is needed beside it for a moment: logits with their gradients, or a block that is computed again."""

    @property
    def peak(self) -> float:
        """Both."""
        return self.saved + self.working


def precision_of(train: TrainConfig) -> Precision:
    """How a run computes."""
    return "float32" if train.dtype == "float32" else "bfloat16" if train.zero_stage else "autocast"


def fullest(sequence: SequenceConfig, sequences: int) -> tuple[MicroBatch, MicroBatch]:
    """The two micro-batches that can be the largest: all images that fit, and text alone (with one blank image)."""
    images = min(sequence.max_images, sequence.length // sequence.image_tokens)
    tokens = sequences * sequence.length
    return (
        MicroBatch(tokens, tokens - sequences * images * sequence.image_tokens, sequences * images),
        MicroBatch(tokens, tokens, 1),
    )


def activation_bytes(units: UnitBytes, batch: MicroBatch, checkpointing: bool, expert_parallel: int = 1) -> ActivationBytes:
    """Count the activations of one micro-batch, everything trained.

    Args:
        units: of the model, in the precision of the run.
        batch: what is in it.
        checkpointing: whether blocks keep their input only.
        expert_parallel: processes that share the experts.
    """
    saved, working = 0.0, batch.predicted * units.logits
    parts = ((units.image, batch.images), (units.token, batch.tokens), (units.prediction, batch.predicted))
    for part, number in parts:
        exchanged = [block.exchanged if expert_parallel > 1 else 0.0 for block in part.blocks]
        full = [block.saved + extra for block, extra in zip(part.blocks, exchanged, strict=True)]
        kept = [block.inputs for block in part.blocks] if checkpointing else full
        saved += number * (part.outside + sum(block.number * size for block, size in zip(part.blocks, kept, strict=True)))
        if part.blocks:
            # In the backward pass a block's widest layer has gradients as large as what it saved.
            gradients = max(block.widest + extra for block, extra in zip(part.blocks, exchanged, strict=True))
            working = max(working, number * (gradients + (max(full) if checkpointing else 0.0)))
    return ActivationBytes(saved, working)
