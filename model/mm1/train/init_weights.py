"""Initialisation of narrow decoders.

The usual standard deviation of 0.02 suits widths of a thousand and more. At width 96 it makes embeddings and the output of
every matrix far smaller than 1, and skills that need two layers to work together emerge late: on the toy world a decoder learns
to bind invented words to descriptions within 200 steps from unit-sized weights, and not within 700 from small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from mm1.modeling.modeling import MM1ForConditionalGeneration


@torch.no_grad()
def unit_decoder(model: MM1ForConditionalGeneration) -> None:
    """Reinitialise the language model: embeddings N(0, 1), matrices and experts U(-1, 1) / sqrt(inputs), biases unchanged.

    Args:
        model: its embedding, decoder and output layer change; norms stay at one. Numbers are drawn in float32,
            whatever its dtype, so that a seed always gives the same model.
    """
    _draw(model.model.language_model.get_input_embeddings().weight, nn.init.normal_)
    for module in (model.model.language_model, model.lm_head):
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2 and "embed_tokens" not in name and parameter is not model.get_input_embeddings().weight:
                bound = parameter.shape[-1] ** -0.5
                _draw(parameter, partial(nn.init.uniform_, a=-bound, b=bound))


def _draw(parameter: torch.Tensor, fill: Callable[[torch.Tensor], torch.Tensor]) -> None:
    parameter.copy_(fill(torch.empty(parameter.shape, dtype=torch.float32, device=parameter.device)))
