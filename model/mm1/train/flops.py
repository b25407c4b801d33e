"""FLOPs of a training step, counted on the model itself, and its share of a device's peak (MFU).

    MM1Config, Trained -> empty model -> torch's FLOP counter, forward and backward of each part -> UnitFlops
    UnitFlops, Work (tokens, documents, images) -> StepFlops; StepFlops.total / seconds / devices / peak -> MFU

Counts the matrix products and convolutions that the step needs. An expert's product counts for the tokens that are routed to
it, attention for the pairs that attend to each other (causal, inside a document), the output layer for positions that predict
a token. Frozen weights have no gradients, and nothing below the first trained parameter has a backward pass; autograd decides
this on the empty model as in training. Excluded: norms, activations, softmax, losses, rotary embeddings, the optimizer, and
work that is repeated (recomputed activations) or useless (masked pairs, padding of a batch). So MFU measures useful work, and
is comparable between implementations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.vision import encode_patches
from mm1.train.config import SequenceConfig
from mm1.train.empty_model import EVERYTHING, Trained, empty_model, fold_blocks, is_trained

PEAK_FLOPS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
)
"""Part of a device's name -> bfloat16 FLOP/s of its tensor cores without sparsity, from NVIDIA's data sheets. Of the H100's
three form factors, the plain name is SXM's. The first match counts."""


@dataclass(frozen=True)
class Work:
    """Work of the model in a step, of one process or of all."""

    tokens: int
    """Tokens that the decoder reads, including image tokens, without padding."""
    pairs: int
    """Pairs of tokens of which the later attends to the earlier or itself: L (L + 1) / 2 in a document of L."""
    predicted: int
    """Positions that predict a token."""
    images: int

    @classmethod
    def of_documents(cls, lengths: Iterable[int], predicted: int, images: int) -> Work:
        """Compute the work of packed documents of these lengths, in tokens."""
        lengths = list(lengths)
        return cls(sum(lengths), sum(length * (length + 1) // 2 for length in lengths), predicted, images)


@dataclass(frozen=True)
class StepFlops:
    """Floating-point operations of a step, forward and backward; one multiply-add is two."""

    vision: int
    connector: int
    decoder: int
    """Projections, feed-forward layers, routers and active experts."""
    attention: int
    """Decoder attention: scores, and weighted sums of values."""
    output: int

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return self.vision + self.connector + self.decoder + self.attention + self.output

    def recomputed(self, forward: StepFlops) -> int:
        """Count what gradient checkpointing repeats: the forward passes of the parts that have a backward pass.

        Args:
            forward: FLOPs of the same step's forward pass.
        """
        pairs = zip(astuple(self), astuple(forward), strict=True)
        return sum(forward_part for part, forward_part in pairs if part > forward_part)


@dataclass(frozen=True)
class UnitFlops:
    """FLOPs for one unit of each kind of work."""

    vision: int
    """Per image."""
    connector: int
    """Per image."""
    decoder: int
    """Per token."""
    attention: int
    """Per pair of tokens."""
    output: int
    """Per position that predicts a token."""

    def step(self, work: Work) -> StepFlops:
        """Count the FLOPs of a step."""
        return StepFlops(
            vision=work.images * self.vision,
            connector=work.images * self.connector,
            decoder=work.tokens * self.decoder,
            attention=work.pairs * self.attention,
            output=work.predicted * self.output,
        )


def full_work(sequence: SequenceConfig, sequences: int) -> Work:
    """Compute the maximum work of a step: sequences without padding, each one document with the maximum number of images.

    Real mixtures have less: shorter documents, fewer images.
    """
    images = min(sequence.max_images, sequence.length // sequence.image_tokens)
    predicted = sequence.length - images * sequence.image_tokens
    return Work.of_documents([sequence.length] * sequences, predicted * sequences, images * sequences)


def peak_flops(device: str) -> float | None:
    """Look up the peak bfloat16 FLOP/s of a device by name, for example "NVIDIA H100 80GB HBM3"; None = unknown."""
    return next((peak for name, peak in PEAK_FLOPS if name in device), None)


def utilisation(flops: float, seconds: float, devices: int, peak: float) -> float:
    """Compute the model FLOPs utilisation: the share of the devices' peak that useful work took, 0 to 1."""
    return flops / seconds / devices / peak


# -- counting --------------------------------------------------------------------------------------------------------------


def count_flops(config: MM1Config, trained: Trained = EVERYTHING) -> UnitFlops:
    """Count the FLOPs of one unit of each kind of work, by running an empty model.

    Args:
        config: of the model.
        trained: what the run trains.

    Raises:
        ConfigurationError: a name in `trained` matches nothing, or nothing is left to train.
    """
    return _count_model(empty_model(config, trained))


def count_forward(config: MM1Config, trained: Trained = EVERYTHING) -> UnitFlops:
    """Count the FLOPs of the forward pass only, adapters included; the arguments are those of `count_flops`."""
    return _count_model(empty_model(config, trained).requires_grad_(False))


def _count_model(whole: MM1ForConditionalGeneration) -> UnitFlops:
    model, width = whole.model, whole.config.text_config.hidden_size
    # Only the products of the chosen experts, as batched products, which torch's counter supports.
    model.language_model.set_experts_implementation("batched_mm")
    counter = _Counter(fold_blocks(whole))

    # Each part starts from a tensor that requires a gradient if the output of the part before it does.
    pixels = torch.empty(1, 3, *whole.config.image_size, device="meta")
    patches, grid = encode_patches(model.vision_tower, pixels, whole.config)
    patches = _like(patches)
    embedding = model.get_input_embeddings()
    has_gradient = model.connector(patches, grid).requires_grad or is_trained(embedding)

    def decode(tokens: int) -> torch.Tensor:
        embeds = torch.empty(1, tokens, width, device="meta", requires_grad=has_gradient)
        visible = torch.ones(1, 1, 1, 1, dtype=torch.bool, device="meta")
        return model.language_model(inputs_embeds=embeds, attention_mask=visible, use_cache=False).last_hidden_state

    # In one pass n tokens are n units of the layers and n * n pairs.
    single, double = counter(lambda: decode(1)), counter(lambda: decode(2))
    pair = (double - 2 * single) // 2
    hidden = _like(decode(1)[0])
    return UnitFlops(
        vision=counter(lambda: encode_patches(model.vision_tower, pixels, whole.config)[0]),
        connector=counter(lambda: model.connector(patches, grid)),
        decoder=single - pair,
        attention=pair,
        output=counter(lambda: whole.lm_head(hidden)),
    )


def _like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a leaf of the same shape that requires a gradient if the tensor does."""
    return torch.empty_like(tensor, requires_grad=tensor.requires_grad)


class _Counter:
    """Counts a forward pass and its backward pass, if it has one; a block that represents several counts that many times.

    Args:
        blocks: number of blocks that each block represents.
    """

    def __init__(self, blocks: dict[nn.Module, int]) -> None:
        self.blocks = blocks

    def __call__(self, forward: Callable[[], torch.Tensor]) -> int:
        calls: list[Callable[[], torch.Tensor]] = []
        repeats: list[int] = []

        def record(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append(partial(block, _like(args[0]), *args[1:], **kwargs))
            repeats.append(self.blocks[block] - 1)

        hooks = [block.register_forward_pre_hook(record, with_kwargs=True) for block in self.blocks]
        flops = _count(forward)
        for hook in hooks:
            hook.remove()
        return flops + sum(number * _count(call) for number, call in zip(repeats, calls, strict=True))


def _count(forward: Callable[[], torch.Tensor]) -> int:
    # Attention as plain products, which the counter sees.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=_CORRECTED) as counter:
        output = forward()
        output = output[0] if isinstance(output, tuple) else output
        if output.requires_grad:
            output.sum().backward()
    return counter.get_total_flops()


def _convolution_backward(
    gradient: torch.Size,
    inputs: torch.Size,
    weight: torch.Size,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: list[bool],
    **_: Any,
) -> int:
    """Count a backward pass: each gradient takes as many FLOPs as the forward pass. Torch's own formula ignores groups."""
    return output_mask[:2].count(True) * conv_flop_count(list(inputs), list(weight), list(gradient), transposed)


_CORRECTED = {torch.ops.aten.convolution_backward: _convolution_backward}
