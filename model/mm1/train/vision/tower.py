"""A vision tower in training by itself, with temporary parts that only its objective needs.

    MM1 model + model.clip or model.aim -> TowerModel: the model's own tower + temporary parts -> engine
    trainer state <-> weights of the temporary parts; the published model has the tower, and lacks them

The tower is the module of the MM1 model, not a copy, and has its name there: learning-rate multipliers and `train.frozen` find
it, and a checkpoint of the MM1 model contains what was trained. The rest of that model takes no part, and stays on the host.

Names of dimensions: N images, P patches of an image, L tokens of an image (patches, class and register tokens), V width of
the tower.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from mm1.checkpoint.pieces import WEIGHT, StatePiece, StateReader
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.vision import encode_tokens

TOWER = "model.vision_tower."


class TowerModel(nn.Module):
    """A tower and temporary parts, which subclasses add.

    Args:
        whole: the MM1 model.
    """

    def __init__(self, whole: MM1ForConditionalGeneration) -> None:
        super().__init__()
        self.config = whole.config
        self.model = nn.ModuleDict({"vision_tower": whole.model.vision_tower})  # the names of the whole model
        self.width = int(whole.config.vision_config.hidden_size)

    def encode(
        self, pixel_values: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode images (N, 3, height, width) to the other tokens and patches_NPV of the last layer."""
        tokens_NLV, (rows, columns) = encode_tokens(self.model["vision_tower"], pixel_values, self.config, attention_mask)
        others, patches_NPV = tokens_NLV.split([tokens_NLV.shape[1] - rows * columns, rows * columns], dim=1)
        return others, patches_NPV

    def temporary(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the temporary parts' parameters with their names."""
        return (item for item in self.named_parameters() if not item[0].startswith(TOWER))

    def temporary_pieces(self) -> list[StatePiece]:
        """Return the temporary parts' weights for the trainer state, as views that the next step changes."""
        return [StatePiece(name, WEIGHT, 0, parameter.detach().view(-1)) for name, parameter in self.temporary()]

    @torch.no_grad()
    def load_temporary(self, saved: StateReader) -> None:
        """Load the temporary parts' weights from a trainer state, before the engine is built.

        Raises:
            CheckpointError: a weight is missing.
        """
        for name, parameter in self.temporary():
            saved.read_into(parameter.view(-1), name, WEIGHT, 0)
