"""Outputs of the MM1 models: those of transformers' decoders, and the losses that a trainer reports.

Names of dimensions:
    B sequences, S tokens of a sequence, N images of the batch, K tokens of an image, D width of the decoder
"""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


@dataclass
class MM1ModelOutputWithPast(BaseModelOutputWithPast):
    """Output of `MM1Model`.

    Attributes:
        image_features: features_NKD of the images in the sequence.
        router_logits: for each sparse layer the (B * S, experts) scores, if requested.
    """

    image_features: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None


@dataclass
class MM1CausalLMOutputWithPast(CausalLMOutputWithPast):
    """Output of `MM1ForConditionalGeneration`.

    Attributes:
        token_loss: the next-token part of the loss.
        balance_loss: balance loss of the routers, not weighted.
        z_loss: z-loss of the routers, not weighted.
        sequence_loss: sum of the next-token losses of each sequence (B,), detached.
        sequence_tokens: number of predicted tokens of each sequence (B,).
        image_features: features_NKD of the images in the sequence.
        router_logits: for each sparse layer the (B * S, experts) scores, if requested or needed for the loss.
    """

    token_loss: torch.Tensor | None = None
    balance_loss: torch.Tensor | None = None
    z_loss: torch.Tensor | None = None
    sequence_loss: torch.Tensor | None = None
    sequence_tokens: torch.Tensor | None = None
    image_features: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None
