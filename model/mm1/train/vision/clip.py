"""CLIP (arXiv 2103.00020): a vision tower and a temporary text tower, which learn equal outputs for an image and its caption.

    pixel_values -> tower -> patches_NPV -> mean -> norm -> projection -> image_NE
    text_ids_NT  -> text tower -> output at the end of the caption -> projection -> text_NE     both of length 1

The text tower is the one of CLIP, with causal attention. The image is the mean of its patches, not the class token of CLIP,
because the connector of MM1 reads the patches of the last layer: CLIP's loss reaches those only through the class token.

Names of dimensions: N pairs, P patches of an image, V width of the vision tower, T tokens of a caption, D width of the text
tower, E width of the space in which they are compared.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import ClipConfig
from mm1.train.vision.tower import TowerModel

MAX_LOG_SCALE = math.log(100)
"""Natural logarithm of the maximum of 1 / temperature."""


class ClipModel(TowerModel):
    """A vision tower, a text tower, two projections and a temperature.

    Args:
        whole: the MM1 model; its tower is trained.
        clip: sizes of the temporary parts.
        vocab_size: token IDs of the tokenizer.
        end_id: token ID that ends a caption.
    """

    def __init__(self, whole: MM1ForConditionalGeneration, clip: ClipConfig, vocab_size: int, end_id: int) -> None:
        super().__init__(whole)
        text = CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=clip.text_hidden_size,
            intermediate_size=4 * clip.text_hidden_size,
            num_hidden_layers=clip.text_layers,
            num_attention_heads=clip.text_heads,
            max_position_embeddings=clip.text_length,
            hidden_act="gelu",
            eos_token_id=end_id,
            pad_token_id=end_id,
            bos_token_id=None,
        )
        self.end_id = end_id
        self.text_tower = CLIPTextModel(text)
        self.image_norm = nn.LayerNorm(self.width)
        self.image_projection = _projection(self.width, clip.embedding_size)
        self.text_projection = _projection(clip.text_hidden_size, clip.embedding_size)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(clip.temperature)]))  # DeepSpeed cannot broadcast a scalar

    def forward(self, pixel_values: torch.Tensor, text_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode pairs.

        Args:
            pixel_values: (N, 3, height, width).
            text_ids: text_ids_NT with an end in each row.

        Returns:
            image_NE and text_NE of length 1, and the logarithm of 1 / temperature, all in float32.
        """
        _, patches_NPV = self.encode(pixel_values)
        image_NV = self.image_norm(patches_NPV.mean(dim=1))
        image_NE = F.normalize(self.image_projection(image_NV).float(), dim=-1)
        text_NE = F.normalize(self._text(text_ids).float(), dim=-1)
        log_scale = self.log_scale.float()[0]
        return image_NE, text_NE, log_scale + (log_scale.clamp(max=MAX_LOG_SCALE) - log_scale).detach()

    def _text(self, text_ids_NT: torch.Tensor) -> torch.Tensor:
        """Encode captions; not by the pooling of transformers, which takes another position if the end's ID is 2."""
        tokens_NTD = self.text_tower(input_ids=text_ids_NT).last_hidden_state
        ends_N = (text_ids_NT == self.end_id).int().argmax(dim=1)
        projected: torch.Tensor = self.text_projection(tokens_NTD[torch.arange(len(ends_N), device=ends_N.device), ends_N])
        return projected


def _projection(width: int, embedding_size: int) -> nn.Linear:
    layer = nn.Linear(width, embedding_size, bias=False)
    nn.init.normal_(layer.weight, std=width**-0.5)
    return layer
