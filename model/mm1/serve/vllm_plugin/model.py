"""The class that vLLM runs: vision tower and connector of this project, and vLLM's own decoder. Needs vLLM.

    pixel_values (N, 3, height, width) -> vision_tower -> connector -> features_NKD -> vLLM merges them with the text
    -> vLLM's decoder (paged attention, tensor parallel) -> logits

Names of dimensions: N images, K tokens of an image, D width of the decoder, T tokens of the batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mm1.modeling.configuration import MM1Config
from mm1.modeling.connectors import build_connector
from mm1.modeling.processing import MM1Processor
from mm1.modeling.vision import build_vision_tower, encode_patches
from mm1.serve.vllm_plugin.interfaces import load_interfaces
from mm1.serve.vllm_plugin.weights import causal_class, prefixes, skipped_prefixes

vllm: Any = load_interfaces()


class MM1ProcessingInfo(vllm.BaseProcessingInfo):
    """Configuration and processor of a model, and how many images a prompt may have."""

    def get_hf_config(self) -> MM1Config:
        """Return the configuration."""
        return self.ctx.get_hf_config(MM1Config)

    def get_hf_processor(self, **options: object) -> MM1Processor:
        """Return the processor of this project, not the copy of its code in the folder."""
        return self.ctx.get_hf_processor(MM1Processor, **options)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Return the maximum number of images in a prompt: any."""
        return {"image": None}


class MM1DummyInputs(vllm.BaseDummyInputsBuilder):
    """The largest inputs, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Return a prompt of images alone."""
        return self.info.get_hf_processor().image_token * mm_counts.get("image", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        """Return images of the tower's size; all images have the same number of tokens."""
        height, width = self.info.get_hf_config().image_size
        images = self._get_dummy_images(width=width, height=height, num_images=mm_counts.get("image", 0))
        return {"image": images}


class MM1MultiModalProcessor(vllm.BaseMultiModalProcessor):
    """The processor of the model in vLLM's terms."""

    def _get_hf_processor_text(self, mm_counts: Mapping[str, int]) -> str:
        return self.dummy_inputs.get_dummy_text(mm_counts)

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Mapping[str, Any]:
        return {"pixel_values": vllm.MultiModalFieldConfig.batched("image")}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        config = self.info.get_hf_config()
        tokens = [config.image_token_id] * config.image_tokens
        return [vllm.PromptReplacement(modality="image", target=[config.image_token_id], replacement=tokens)]


@vllm.MULTIMODAL_REGISTRY.register_processor(MM1MultiModalProcessor, info=MM1ProcessingInfo, dummy_inputs=MM1DummyInputs)
class MM1ForVllm(nn.Module, vllm.SupportsMultiModal, vllm.SupportsPP):
    """MM1 in vLLM.

    Args:
        vllm_config: vLLM's configuration with the model's.
        prefix: prefix of the names of its modules.
    """

    packed_modules_mapping = {  # noqa: RUF012  vLLM reads this attribute
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Return the text that stands for an image in a prompt."""
        if modality.startswith("image"):
            return "<image>"
        raise ValueError(f"MM1 takes images only, not {modality}")

    vision_tower: Any
    connector: Any
    language_model: Any
    _mark_tower_model: Any
    _mark_language_model: Any

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        self.config: MM1Config = vllm_config.model_config.hf_config
        with self._mark_tower_model(vllm_config, "image"):
            self.vision_tower = build_vision_tower(self.config)
            self.connector = build_connector(self.config)
        text = self.config.text_config
        with self._mark_language_model(vllm_config):
            self.language_model = vllm.init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=text,
                prefix=vllm.maybe_prefix(prefix, "language_model"),
                architectures=[causal_class(text).__name__],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors
        generation = vllm_config.model_config.try_get_generation_config() or {}
        # vLLM does not read suppress_tokens: the image token, and rows of the embedding that belong to no token.
        self.suppressed_ids = sorted({self.config.image_token_id, *(generation.get("suppress_tokens") or ())})

    def embed_multimodal(self, **inputs: Any) -> torch.Tensor | list[torch.Tensor]:
        """Encode images: pixel_values (N, 3, height, width) to features_NKD."""
        pixel_values = inputs.get("pixel_values")
        if pixel_values is None:
            return []
        if isinstance(pixel_values, list | tuple):
            pixel_values = torch.stack(list(pixel_values))
        dtype = next(self.connector.parameters()).dtype
        return self.connector(*encode_patches(self.vision_tower, pixel_values.to(dtype), self.config))

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: object,
    ) -> Any:
        """Run the decoder; the features of images are in inputs_embeds already.

        Args:
            input_ids: (T,), None with inputs_embeds.
            positions: (T,).
            intermediate_tensors: of the previous stage of a pipeline.
            inputs_embeds: (T, D).

        Returns:
            The last hidden states (T, D).
        """
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor, *args: Any) -> torch.Tensor | None:
        """Return the logits (T, V); ids that are never generated have none."""
        logits_TV = self.language_model.compute_logits(hidden_states, *args)
        if logits_TV is not None:
            logits_TV[:, self.suppressed_ids] = float("-inf")
        return logits_TV

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load the weights of an exported folder; returns the names of what was loaded."""
        loader = vllm.AutoWeightsLoader(self, skip_prefixes=skipped_prefixes(self.config))
        mapper = vllm.WeightsMapper(orig_to_new_prefix=prefixes(self.config.text_config))
        return loader.load_weights(weights, mapper=mapper)
