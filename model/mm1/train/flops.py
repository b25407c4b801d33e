"""Arithmetic of a training step, counted from sizes alone, and what share of a device's peak it is (MFU). Torch-free.

    sizes (a recipe's sections, or a built model's configuration) + Work (tokens, documents, images) -> StepFlops
    StepFlops.total / seconds / devices / peak -> MFU

Counted are the matrix products and convolutions that the step cannot do without: forward once, backward twice (once for inputs,
once for weights; pixels need none). Each expert's product counts for the tokens that chose it, attention for the pairs that see
each other (causal, inside a document), the output layer for positions that predict something. Left out: norms, activations,
softmax, losses, rotations, the optimiser, and what is done twice on purpose (recomputed activations) or in vain (a masked pair,
padding of a batch). So MFU is of useful work, and comparable between ways to do it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mm1.errors import ConfigurationError
from mm1.train.config import ConnectorConfig, DecoderConfig, RunConfig, SequenceConfig, VisionConfig

PEAK_FLOPS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
)
"""Part of a device's name -> bfloat16 FLOP/s of its tensor cores without sparsity, from NVIDIA's data sheets of each; those of
the H100 are for its three forms, of which the plain name is SXM's. The first that fits counts."""

SQUEEZE = 0.25  # squeezed channels of a RegNet block's gate, by its input channels (mm1.modeling.connectors)


@dataclass(frozen=True)
class Sizes:
    """The numbers of a model that its arithmetic follows from."""

    vision: VisionConfig
    connector: ConnectorConfig
    decoder: DecoderConfig
    """With its vocabulary."""
    patches: int
    """Patches of an image."""
    class_tokens: int
    """Tokens of the tower beside them."""
    image_tokens: int


@dataclass(frozen=True)
class Work:
    """What goes through the model in a step, of one process or of all."""

    tokens: int
    """Tokens that the decoder reads, image tokens among them; padding is no work."""
    pairs: int
    """Pairs of tokens of which the later one sees the earlier, itself included: L (L + 1) / 2 in a document of L."""
    predicted: int
    """Positions that predict a token."""
    images: int

    @classmethod
    def of_documents(cls, lengths: Iterable[int], predicted: int, images: int) -> Work:
        """The work of packed documents of these lengths, in tokens."""
        lengths = list(lengths)
        return cls(sum(lengths), sum(length * (length + 1) // 2 for length in lengths), predicted, images)


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of a step, forward and backward, with everything trained; one multiply-add is two."""

    vision: int
    connector: int
    decoder: int
    """Projections, feed-forward layers, routers and active experts."""
    attention: int
    """Of the decoder: scores, and sums of values."""
    output: int

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return self.vision + self.connector + self.decoder + self.attention + self.output


def sizes_of_run(config: RunConfig, vocab_size: int = 0) -> Sizes:
    """Sizes of a recipe that brings all parts and its sequence.

    Args:
        config: the run.
        vocab_size: tokens of the tokenizer, where the recipe leaves the vocabulary to it.

    Raises:
        ConfigurationError: a size stands elsewhere.
    """
    vision, connector, decoder = config.model.vision, config.model.connector, config.model.decoder
    sequence = config.sequence
    if vision is None or connector is None or decoder is None or sequence is None:
        raise ConfigurationError(f"recipe {config.recipe} leaves sizes to init or mixture, so its arithmetic cannot be counted")
    if not (decoder.vocab_size or vocab_size):
        raise ConfigurationError(f"recipe {config.recipe} leaves its vocabulary to the tokenizer: set model.decoder.vocab_size")
    decoder = decoder.model_copy(update={"vocab_size": decoder.vocab_size or vocab_size})
    patches = (sequence.image_size_px // vision.patch_size_px) ** 2
    return Sizes(vision, connector, decoder, patches, class_tokens=1, image_tokens=sequence.image_tokens)


def sizes_of_model(config: Any) -> Sizes:
    """Sizes of a built model, from its `MM1Config` with a CLIP or SigLIP tower and a Qwen3 or Qwen3-MoE decoder."""
    tower, text = config.vision_config, config.text_config
    height, width = (size // patch for size, patch in zip(config.image_size, config.patch_size, strict=True))
    vision = VisionConfig(
        hidden_size=tower.hidden_size,
        num_layers=tower.num_hidden_layers,
        num_heads=tower.num_attention_heads,
        ffn_size=tower.intermediate_size,
        patch_size_px=config.patch_size[0],
    )
    connector = ConnectorConfig(
        type=config.connector_type,
        hidden_size=config.connector_hidden_size,
        depth=config.connector_depth,
        mlp_depth=config.connector_mlp_depth,
        num_heads=config.connector_num_heads,
    )
    decoder = DecoderConfig(
        hidden_size=text.hidden_size,
        num_layers=text.num_hidden_layers,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_size=text.head_dim,
        ffn_size=text.intermediate_size,
        vocab_size=text.vocab_size,
        num_experts=getattr(text, "num_experts", 0),
        experts_per_token=getattr(text, "num_experts_per_tok", 2),
        expert_ffn_size=getattr(text, "moe_intermediate_size", 0),
        sparse_every=getattr(text, "decoder_sparse_step", 1),
    )
    return Sizes(vision, connector, decoder, height * width, int(tower.model_type == "clip_vision_model"), config.image_tokens)


def full_work(sequence: SequenceConfig, sequences: int) -> Work:
    """The most that a step can hold: sequences without padding, each one document with all the images that it may have.

    Real mixtures hold less: shorter documents, fewer images.
    """
    images = min(sequence.max_images, sequence.length // sequence.image_tokens)
    predicted = sequence.length - images * sequence.image_tokens
    return Work.of_documents([sequence.length] * sequences, predicted * sequences, images * sequences)


def step_flops(sizes: Sizes, work: Work) -> StepFlops:
    """Count a step."""
    decoder = sizes.decoder
    return StepFlops(
        vision=work.images * (3 * _vision_blocks(sizes) + 2 * _patch_embedding(sizes)),
        connector=3 * work.images * _connector(sizes),
        decoder=3 * work.tokens * _decoder_layers(decoder),
        attention=3 * work.pairs * decoder.num_layers * 4 * decoder.num_heads * decoder.head_size,
        output=3 * work.predicted * 2 * decoder.hidden_size * decoder.vocab_size,
    )


def peak_flops(device: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device by its name, for example "NVIDIA H100 80GB HBM3"; None = not known."""
    return next((peak for name, peak in PEAK_FLOPS if name in device), None)


def utilisation(flops: float, seconds: float, devices: int, peak: float) -> float:
    """Model FLOPs utilisation: share of the devices' peak that useful work took, 0 to 1."""
    return flops / seconds / devices / peak


# -- forward, of one image or one token ------------------------------------------------------------------------------------


def _vision_blocks(sizes: Sizes) -> int:
    vision, tokens = sizes.vision, sizes.patches + sizes.class_tokens
    linear = 2 * tokens * (4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.ffn_size)
    attention = 4 * tokens * tokens * vision.hidden_size
    return vision.num_layers * (linear + attention)


def _patch_embedding(sizes: Sizes) -> int:
    return 2 * sizes.patches * 3 * sizes.vision.patch_size_px**2 * sizes.vision.hidden_size


def _connector(sizes: Sizes) -> int:
    connector, tokens = sizes.connector, sizes.image_tokens
    vision, text = sizes.vision.hidden_size, sizes.decoder.hidden_size
    if connector.type == "average_pool":
        return 2 * tokens * vision * text
    if connector.type == "attention_pool":
        return 4 * tokens * text * text + 4 * sizes.patches * vision * text + 4 * tokens * sizes.patches * text
    width, depth = connector.hidden_size, connector.depth
    before = _regnet_block(sizes.patches, vision, width) + (depth - 1) * _regnet_block(sizes.patches, width, width)
    after = depth * _regnet_block(tokens, width, width)
    return before + after + 2 * tokens * (width * text + (connector.mlp_depth - 1) * text * text)


def _regnet_block(positions: int, inputs: int, outputs: int) -> int:
    squeezed = max(1, round(SQUEEZE * inputs))
    shortcut = 0 if inputs == outputs else inputs * outputs
    each = inputs * outputs + 9 * outputs + outputs * outputs + shortcut
    return 2 * (positions * each + 2 * outputs * squeezed)


def _decoder_layers(decoder: DecoderConfig) -> int:
    width = decoder.hidden_size
    projections = 2 * width * decoder.head_size * (2 * decoder.num_heads + 2 * decoder.num_kv_heads)
    dense = 2 * 3 * width * decoder.ffn_size
    active = decoder.experts_per_token * 2 * 3 * width * (decoder.expert_ffn_size or decoder.ffn_size)
    sparse_layers = decoder.num_layers // decoder.sparse_every if decoder.num_experts else 0
    sparse = active + 2 * width * decoder.num_experts
    return decoder.num_layers * projections + (decoder.num_layers - sparse_layers) * dense + sparse_layers * sparse
