"""Bytes of activations that a micro-batch keeps for its backward pass, and needs for the moment. Torch-free.

    Sizes, MicroBatch, precision, checkpointing -> ActivationBytes

Counted tensor by tensor, as autograd saves them (saved-tensor hooks on real models are what the tests compare with). Three
precisions: float32; bfloat16 weights; autocast, where the residual stream stays float32 and every product keeps a bfloat16
copy of its input and, for the step, of its weight. Norms of the decoder save their input as float32 in all of them.

As on CUDA, with variable-length attention: one output and one number a head and token beside queries, keys and values. On a
CPU packed attention keeps more, a mask of the squared length or a second output, and autocast's norms in the connector less.
Experts are counted as `mm1_sorted` keeps them, balanced over processes; DeepSpeed's layer, which takes its place where
processes share experts, also keeps the rows that it sends and receives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mm1.train.config import SequenceConfig, TrainConfig
from mm1.train.flops import Sizes
from mm1.train.plan.shapes import is_sparse

Precision = Literal["float32", "bfloat16", "autocast"]
PRODUCT = {"float32": 4, "bfloat16": 2, "autocast": 2}
"""Bytes of an element that comes out of a matrix product."""
STREAM = {"float32": 4, "bfloat16": 2, "autocast": 4}
"""Bytes of an element of the residual stream."""


@dataclass(frozen=True)
class MicroBatch:
    """What one process takes at a time."""

    tokens: int
    predicted: int
    """Positions that predict a token."""
    images: int


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


def activation_bytes(
    sizes: Sizes, batch: MicroBatch, precision: Precision, checkpointing: bool, expert_parallel: int = 1
) -> ActivationBytes:
    """Count the activations of one micro-batch, everything trained.

    Args:
        sizes: of the model.
        batch: what is in it.
        precision: how the run computes.
        checkpointing: whether blocks keep their input only.
        expert_parallel: processes that share the experts.
    """
    count, decoder = _Counter(sizes, precision, expert_parallel), sizes.decoder
    tokens, patches = batch.tokens, batch.images * (sizes.patches + sizes.class_tokens)
    kinds = [is_sparse(decoder, number) for number in range(decoder.num_layers)]
    layers = {sparse: tokens * count.decoder_layer(sparse) for sparse in set(kinds)}
    tower = patches * count.vision_layer()
    saved = batch.images * (count.image() + count.connector()) + tokens * count.stream() + batch.predicted * count.prediction()
    saved += sum(kinds) * tokens * 8 * decoder.num_experts  # the routers' losses
    product = PRODUCT[precision]
    if checkpointing:
        saved += tokens * len(kinds) * STREAM[precision] * decoder.hidden_size
        saved += patches * sizes.vision.num_layers * STREAM[precision] * sizes.vision.hidden_size
    else:
        saved += sum(layers[sparse] for sparse in kinds) + sizes.vision.num_layers * tower
    again = (max(layers.values()), tower) if checkpointing else (0.0, 0.0)
    gradients = tokens * max(count.inner(sparse) for sparse in layers), patches * 3 * product * sizes.vision.ffn_size
    logits = batch.predicted * decoder.vocab_size * (4 if product == 4 else 6)
    return ActivationBytes(saved, max(logits, *(block + gradient for block, gradient in zip(again, gradients, strict=True))))


class _Counter:
    """Bytes for one token, or one image, of each part."""

    def __init__(self, sizes: Sizes, precision: Precision, expert_parallel: int) -> None:
        self.sizes, self.expert_parallel = sizes, expert_parallel
        self.product, self.flow = PRODUCT[precision], STREAM[precision]
        self.is_autocast = precision == "autocast"

    def copies(self, products: int) -> int:
        """Bytes of the input of some products: the same tensor, or a copy for each."""
        return self.product * (products if self.is_autocast else 1)

    def decoder_layer(self, sparse: bool) -> float:
        decoder = self.sizes.decoder
        heads, groups, width = decoder.num_heads, decoder.num_kv_heads, decoder.hidden_size
        before = width * (4 + self.flow + self.copies(3)) + 4
        queries_keys = (heads + groups) * (decoder.head_size * (4 + 2 * self.product) + 4)
        values_output = (heads + groups) * decoder.head_size * self.product + 4 * heads
        between = width * (4 + self.flow + self.copies(1 if sparse else 2)) + 4
        routing = 4 * decoder.num_experts + 8 * 4 * decoder.experts_per_token if sparse else 0
        return before + queries_keys + values_output + between + routing + self.inner(sparse)

    def inner(self, sparse: bool) -> float:
        """Of the feed-forward layer: gate, up, activation, product; rows of experts also on their way there and back."""
        decoder = self.sizes.decoder
        if not sparse:
            return 4 * decoder.ffn_size * self.product
        travel = 2 if self.expert_parallel == 1 else 4
        row = 4 * (decoder.expert_ffn_size or decoder.ffn_size) + travel * decoder.hidden_size
        return decoder.experts_per_token * row * self.product

    def stream(self) -> float:
        """Of a token outside the blocks: its id, its rotation, the last norm."""
        decoder = self.sizes.decoder
        return 8 + 2 * decoder.head_size * self.flow + decoder.hidden_size * (4 + self.flow) + 4

    def prediction(self) -> float:
        """Of a position that predicts: output layer's input, probabilities in float32, indices."""
        return self.sizes.decoder.hidden_size * self.product + 4 * self.sizes.decoder.vocab_size + 24

    def vision_layer(self) -> float:
        vision = self.sizes.vision
        width = 2 * self.flow + self.copies(3) + 4 * self.product + self.product
        return vision.hidden_size * width + 3 * vision.ffn_size * self.product + 16 + 4 * vision.num_heads

    def image(self) -> float:
        """Pixels, and the norm before the tower's blocks."""
        vision, tokens = self.sizes.vision, self.sizes.patches + self.sizes.class_tokens
        pixels = 3 * self.sizes.patches * vision.patch_size_px**2
        return pixels * self.product + tokens * (vision.hidden_size * self.flow + 8)

    def connector(self) -> float:
        sizes, connector = self.sizes, self.sizes.connector
        vision, text, tokens = sizes.vision.hidden_size, sizes.decoder.hidden_size, sizes.image_tokens
        if connector.type == "average_pool":
            return tokens * vision * self.product
        if connector.type == "attention_pool":
            patches = sizes.patches * (vision * (self.flow + self.copies(2)) + 2 * text * self.product)
            return patches + 4 * tokens * text * self.product
        width, later = connector.hidden_size, connector.depth - 1
        found = sizes.patches * (self._regnet_block(vision) + later * self._regnet_block(width) + width * self.product)
        found += tokens * connector.depth * self._regnet_block(width)
        return found + tokens * (width + 2 * text * (connector.mlp_depth - 1)) * self.product

    def _regnet_block(self, inputs: int) -> float:
        """Of a position: nine maps, one more for a shortcut; autocast keeps those around norms in float32."""
        width = self.sizes.connector.hidden_size
        shortcut = inputs != width
        maps = 32 + 4 * shortcut if self.is_autocast else (9 + shortcut) * self.product
        return inputs * self.copies(1 + shortcut) + width * maps + 8 * (3 + shortcut)
