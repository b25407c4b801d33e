"""Configuration of an MM1 model: a vision tower, a connector and a causal decoder.

A composite Hugging Face configuration. `vision_config` and `text_config` are the configurations of the two parts in
transformers; the other fields define how they are joined:

    pixels -> vision tower (vision_config) -> connector (connector_*) -> image_tokens embeddings
    token ids -> embedding of the decoder (text_config), where `image_token_id` is replaced by those embeddings

Like the whole package, this file imports nothing else from the project, because it is copied into exported models.
"""

import math
from typing import Any, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

ConnectorType = Literal["average_pool", "attention_pool", "c_abstractor"]
CONNECTOR_TYPES: tuple[ConnectorType, ...] = get_args(ConnectorType)

EXPERT_NUMBERS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names that decoders of transformers have for their number of experts."""


class MM1Config(PreTrainedConfig):
    """Configuration of `MM1ForConditionalGeneration`.

    Attributes:
        vision_config: configuration (or its dictionary with `model_type`) of any vision tower that returns
            `last_hidden_state` of its patches in row order, after any class or register tokens.
        text_config: configuration (or its dictionary with `model_type`) of any causal decoder.
        image_token_id: id of the token whose embedding is replaced by image features.
        image_tokens: number of tokens of one image, a square number. MM1 uses 144 (paper, section 4).
        connector_type: name of the connector; MM1 uses `c_abstractor` (paper, section 4).
        connector_hidden_size: width of the C-Abstractor.
        connector_depth: RegNet blocks in each of the two stages of the C-Abstractor.
        connector_mlp_depth: linear layers of the C-Abstractor's readout.
        connector_num_heads: heads of the attention pool.
        router_balance_loss_weight: weight of the experts' balance loss (paper, section 4).
        router_z_loss_weight: weight of the router's z-loss (paper, section 4).
        tie_word_embeddings: whether the output layer shares the weight of the input embedding; also true if it is set
            in the decoder's configuration.
        lm_head_bias: whether the output layer has a bias, as that of Phi.
    """

    model_type = "mm1"
    sub_configs_defaults = {  # noqa: RUF012  a ClassVar of the base class
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="qwen3"),
    }

    # dict or None when given, a PreTrainedConfig of another class for each model_type after __post_init__
    vision_config: Any = None
    text_config: Any = None
    image_token_id: int = 1
    image_tokens: int = 144
    connector_type: ConnectorType = "c_abstractor"
    connector_hidden_size: int = 1024
    connector_depth: int = 3
    connector_mlp_depth: int = 2
    connector_num_heads: int = 16
    router_balance_loss_weight: float = 0.01
    router_z_loss_weight: float = 0.001
    tie_word_embeddings: bool = False
    lm_head_bias: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the two sub-configurations and check the fields that join them.

        Raises:
            ValueError: a field of the connector is out of its range.
        """
        super().__post_init__(**kwargs)
        if getattr(self.text_config, "tie_word_embeddings", False):
            self.tie_word_embeddings = True
        if self.connector_type not in CONNECTOR_TYPES:
            raise ValueError(f"connector_type: expected one of {', '.join(CONNECTOR_TYPES)}, got {self.connector_type!r}")
        if self.image_tokens < 1 or math.isqrt(self.image_tokens) ** 2 != self.image_tokens:
            raise ValueError(f"image_tokens: expected a square number such as 64 or 144, got {self.image_tokens}")
        for field in ("connector_hidden_size", "connector_depth", "connector_mlp_depth", "connector_num_heads"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: expected at least 1, got {getattr(self, field)}")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, without a dtype in the parts.

        transformers sets one in them on loading, so a configuration would change when it is saved, loaded and saved.
        """
        fields = super().to_dict()
        for part in self.sub_configs_defaults:
            if isinstance(fields.get(part), dict):
                fields[part].pop("dtype", None)
        return fields

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of one patch in pixels."""
        return _pair(self.vision_config.patch_size)

    @property
    def image_size(self) -> tuple[int, int]:
        """Native image height and width of the vision tower's position embeddings, in pixels."""
        return _pair(self.vision_config.image_size)

    @property
    def is_moe(self) -> bool:
        """Whether the decoder has experts."""
        return bool(getattr(self, "num_experts", 0))

    # DeepSpeed's AutoEP reads the three names below from the model's own configuration, not from the decoder's. They
    # delegate to the decoder's instead of copying; a decoder without experts raises AttributeError.

    @property
    def num_experts(self) -> int:
        """Number of experts in each sparse layer of the decoder."""
        names = (name for name in EXPERT_NUMBERS if getattr(self.text_config, name, None) is not None)
        return getattr(self.text_config, next(names, "num_experts"))

    @property
    def num_experts_per_tok(self) -> int:
        """Number of experts that each token is routed to."""
        return self.text_config.num_experts_per_tok

    @property
    def norm_topk_prob(self) -> bool:
        """Whether the weights of the chosen experts are normalised to sum to one."""
        return self.text_config.norm_topk_prob


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


MM1Config.register_for_auto_class()
# With this package installed, transformers need not run the copy of the code in a saved folder, nor ask for permission.
AutoConfig.register(MM1Config.model_type, MM1Config, exist_ok=True)
