"""Arithmetic of a training step, counted on the model itself, and what share of a device's peak it is (MFU).

    MM1Config -> empty model -> torch's FLOP counter, forward and backward of each part -> UnitFlops
    UnitFlops, Work (tokens, documents, images) -> StepFlops; StepFlops.total / seconds / devices / peak -> MFU

Counted are the matrix products and convolutions that the step cannot do without, everything trained. Each expert's product
counts for the tokens that chose it, attention for the pairs that see each other (causal, inside a document), the output layer
for positions that predict something. Left out: norms, activations, softmax, losses, rotations, the optimiser, and what is done
twice on purpose (recomputed activations) or in vain (a masked pair, padding of a batch). So MFU is of useful work, and
comparable between ways to do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mm1.modeling.configuration import MM1Config
from mm1.modeling.vision import encode_patches
from mm1.train.config import SequenceConfig
from mm1.train.empty_model import empty_model, fold_blocks

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


@dataclass(frozen=True)
class UnitFlops:
    """The same for one unit of each kind of work."""

    vision: int
    """An image."""
    connector: int
    """An image."""
    decoder: int
    """A token."""
    attention: int
    """A pair of tokens."""
    output: int
    """A position that predicts."""

    def step(self, work: Work) -> StepFlops:
        """Count a step."""
        return StepFlops(
            vision=work.images * self.vision,
            connector=work.images * self.connector,
            decoder=work.tokens * self.decoder,
            attention=work.pairs * self.attention,
            output=work.predicted * self.output,
        )


def full_work(sequence: SequenceConfig, sequences: int) -> Work:
    """The most that a step can hold: sequences without padding, each one document with all the images that it may have.

    Real mixtures hold less: shorter documents, fewer images.
    """
    images = min(sequence.max_images, sequence.length // sequence.image_tokens)
    predicted = sequence.length - images * sequence.image_tokens
    return Work.of_documents([sequence.length] * sequences, predicted * sequences, images * sequences)


def peak_flops(device: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device by its name, for example "NVIDIA H100 80GB HBM3"; None = not known."""
    return next((peak for name, peak in PEAK_FLOPS if name in device), None)


def utilisation(flops: float, seconds: float, devices: int, peak: float) -> float:
    """Model FLOPs utilisation: share of the devices' peak that useful work took, 0 to 1."""
    return flops / seconds / devices / peak


# -- counting --------------------------------------------------------------------------------------------------------------


def count_flops(config: MM1Config) -> UnitFlops:
    """Count what one unit of each kind of work costs a model, by running an empty one."""
    whole = empty_model(config)
    model, width = whole.model, config.text_config.hidden_size
    # Products of the chosen experts alone, as batched products, which torch's counter knows.
    model.language_model.set_experts_implementation("batched_mm")
    counter = _Counter(fold_blocks(whole))

    pixels = torch.empty(1, 3, *config.image_size, device="meta")
    patches, grid = encode_patches(model.vision_tower, pixels, config)
    patches = torch.empty_like(patches, requires_grad=True)

    def decode(tokens: int) -> torch.Tensor:
        embeds = torch.empty(1, tokens, width, device="meta", requires_grad=True)
        visible = torch.ones(1, 1, 1, 1, dtype=torch.bool, device="meta")
        return model.language_model(inputs_embeds=embeds, attention_mask=visible, use_cache=False).last_hidden_state

    # In one pass n tokens are n units of the layers and n * n pairs.
    alone, together = counter(lambda: decode(1)), counter(lambda: decode(2))
    pair = (together - 2 * alone) // 2
    return UnitFlops(
        vision=counter(lambda: encode_patches(model.vision_tower, pixels, config)[0]),
        connector=counter(lambda: model.connector(patches, grid)),
        decoder=alone - pair,
        attention=pair,
        output=counter(lambda: whole.lm_head(torch.empty(1, width, device="meta", requires_grad=True))),
    )


class _Counter:
    """Counts a forward pass and its backward pass; a block that stands for several counts as often.

    Args:
        blocks: how many blocks each of them stands for.
    """

    def __init__(self, blocks: dict[nn.Module, int]) -> None:
        self.blocks = blocks

    def __call__(self, forward: Callable[[], torch.Tensor]) -> int:
        calls: list[Callable[[], torch.Tensor]] = []
        repeats: list[int] = []

        def note(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append(partial(block, torch.empty_like(args[0], requires_grad=True), *args[1:], **kwargs))
            repeats.append(self.blocks[block] - 1)

        hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in self.blocks]
        flops = _counted(forward)
        for hook in hooks:
            hook.remove()
        return flops + sum(number * _counted(call) for number, call in zip(repeats, calls, strict=True))


def _counted(forward: Callable[[], torch.Tensor]) -> int:
    # Attention as plain products, which the counter looks into.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=_CORRECTED) as counter:
        output = forward()
        (output[0] if isinstance(output, tuple) else output).sum().backward()
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
    wanted: list[bool],
    **_: Any,
) -> int:
    """A gradient takes as many operations as the forward pass; torch's own formula forgets about groups."""
    return wanted[:2].count(True) * conv_flop_count(list(inputs), list(weight), list(gradient), transposed)


_CORRECTED = {torch.ops.aten.convolution_backward: _convolution_backward}
