"""The class that vLLM runs: vision tower and connector of this project, and vLLM's own decoder. Needs vLLM.

    pixel_values (N, 3, height, width) -> vision_tower -> connector -> features_NKD -> vLLM merges them with the text
    -> vLLM's decoder (paged attention, tensor parallel) -> logits

If the model divides images into tiles, the tiles of an image are one item for vLLM. Whether a prompt's images are divided
depends on their number, so it is part of what vLLM's caches of items are keyed by.

Names of dimensions: N images (an image in tiles is several), K tokens of an image, D width of the decoder, T tokens of the
batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from mm1.modeling.configuration import MM1Config
from mm1.modeling.connectors import build_connector
from mm1.modeling.image_layout import Tiles
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
        """Return images with the most tokens: of the tower's size, or with the largest grid of tiles."""
        height, width = self.info.get_hf_config().image_size
        layout, count = self.info.get_hf_processor().layout, mm_counts.get("image", 0)
        if layout.divides(count):
            rows, columns = max(layout.grids(), key=lambda grid: grid[0] * grid[1]) if layout.name == "dynamic" else (2, 2)
            height, width = height * rows, width * columns
        return {"image": self._get_dummy_images(width=width, height=height, num_images=count)}


class MM1MultiModalProcessor(vllm.BaseMultiModalProcessor):
    """The processor of the model in vLLM's terms."""

    def _get_hf_processor_text(self, mm_counts: Mapping[str, int]) -> str:
        return self.dummy_inputs.get_dummy_text(mm_counts)

    @property
    def _processor(self) -> MM1Processor:
        return self.info.get_hf_processor()

    def apply(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """Process a prompt; whether its images are divided is decided here, where all of them are known."""
        layout = self._processor.layout
        if not layout.is_single:
            counts = inputs.mm_data_items.get_all_counts()
            chosen = {"divide_images": layout.divides(counts.get("image", 0))}
            inputs = replace(inputs, hf_processor_mm_kwargs={**inputs.hf_processor_mm_kwargs, **chosen})
        return super().apply(inputs, *arguments, **options)

    def _cached_apply_hf_processor(self, *arguments: Any, **options: Any) -> Any:
        # The marks of an image have its number in the prompt, which a cached item does not know.
        if self._processor.layout.is_single:
            return super()._cached_apply_hf_processor(*arguments, **options)
        return self._apply_hf_processor(*arguments, **options)

    def _call_hf_processor(
        self, prompt: str, mm_data: Mapping[str, Any], mm_kwargs: Mapping[str, Any], tok_kwargs: Mapping[str, Any]
    ) -> Any:
        outputs = super()._call_hf_processor(prompt, mm_data, mm_kwargs, tok_kwargs)
        if images := mm_data.get("images"):
            outputs["num_tiles"] = torch.tensor([each.count for each in self._tiles(images, mm_kwargs)])
        return outputs

    def _tiles(self, images: Any, mm_kwargs: Mapping[str, Any]) -> list[Tiles]:
        return self._processor.tiles(list(images), mm_kwargs.get("divide_images"))

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Mapping[str, Any]:
        if self._processor.layout.is_single or "num_tiles" not in hf_inputs:
            return {"pixel_values": vllm.MultiModalFieldConfig.batched("image")}
        tiles = vllm.MultiModalFieldConfig.flat_from_sizes("image", hf_inputs["num_tiles"])
        return {"pixel_values": tiles, "num_tiles": vllm.MultiModalFieldConfig.batched("image")}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[Any]:
        config = self.info.get_hf_config()
        tokens: Any = [config.image_token_id] * config.image_tokens
        if not self._processor.layout.is_single:
            tokens = partial(self._tokens_of_item, mm_items, hf_processor_mm_kwargs)
        return [vllm.PromptReplacement(modality="image", target=[config.image_token_id], replacement=tokens)]

    def _tokens_of_item(self, mm_items: Any, mm_kwargs: Mapping[str, Any], number: int) -> Any:
        """Return the tokens of an image: those of its tiles, which embeddings replace, and the marks around them."""
        (tiles,) = self._tiles([mm_items["image"][number]], mm_kwargs)
        tokens = self._processor.image_ids(tiles, number)
        return vllm.PromptUpdateDetails.select_token_id(tokens, self.info.get_hf_config().image_token_id)


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
        """Encode images: pixel_values (N, 3, height, width) to features_NKD, or to those of each image if it has tiles."""
        pixel_values = inputs.get("pixel_values")
        if pixel_values is None:
            return []
        if isinstance(pixel_values, list | tuple):
            join = torch.stack if pixel_values[0].ndim == 3 else torch.cat
            pixel_values = join(list(pixel_values))
        dtype = next(self.connector.parameters()).dtype
        features_NKD = self.connector(*encode_patches(self.vision_tower, pixel_values.to(dtype), self.config))
        if (num_tiles := inputs.get("num_tiles")) is None:
            return features_NKD
        counts = [int(count) for count in num_tiles]
        return [features.flatten(0, 1) for features in features_NKD.split(counts)]

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
