"""MM1: vision tower, connector, causal decoder, in Hugging Face style.

    pixel_values (N, 3, height, width) -> vision_tower -> patches_NPV -> connector -> features_NKD
    input_ids_BS -> embed_tokens -> embeds_BSD, in which the features replace the image tokens
    embeds_BSD -> language_model -> hidden_BSD -> lm_head -> logits or loss

Differences from other models:
    - `document_ids` packs several documents into one sequence without leakage (see attention.py).
    - With `labels`, logits are computed on labelled positions only and not returned, unless `return_logits=True`.
    - Images of the whole batch are one tensor, in order of appearance, row by row; rows may have any number of images.

Names of dimensions:
    B sequences, S tokens of a sequence, N images of the batch, P patches of an image, V width of the vision tower,
    K tokens of an image, D width of the decoder
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_utils import slice_logits_to_keep

from .attention import PACKED_ATTENTION, documents_from_positions, packed_mask
from .configuration import MM1Config
from .connectors import build_connector, init_connector_weights
from .experts import SORTED_EXPERTS
from .losses import next_token_loss, next_token_targets, router_losses
from .outputs import MM1CausalLMOutputWithPast, MM1ModelOutputWithPast
from .parts import build_from_parts
from .routers import use_float32_routers
from .vision import build_vision_tower, encode_patches


class MM1PreTrainedModel(PreTrainedModel):
    """Base class of the MM1 models, with their declarations for transformers."""

    config: MM1Config
    config_class = MM1Config
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012  transformers reads this attribute
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not init_connector_weights(module):
            super()._init_weights(module)


class MM1Model(MM1PreTrainedModel):
    """Vision tower, connector and decoder without the output layer."""

    def __init__(self, config: MM1Config) -> None:
        super().__init__(config)
        self.vision_tower = build_vision_tower(config)
        self.connector = build_connector(config)
        chosen_attention = config.text_config._attn_implementation
        chosen_experts = config.text_config._experts_implementation
        self.language_model = AutoModel.from_config(config.text_config)
        if chosen_attention is None and self.language_model._supports_attention_backend:
            self.language_model.set_attn_implementation(PACKED_ATTENTION)
        if chosen_experts is None:  # no effect on a decoder without experts
            self.language_model.set_experts_implementation(SORTED_EXPERTS)
        use_float32_routers(self.language_model)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of token ids."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of token ids."""
        self.language_model.set_input_embeddings(value)

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            pixel_values: (N, 3, height, width), normalised; any resolution that is a whole number of patches. The
                position embeddings are interpolated if it is not the tower's own.

        Returns:
            features_NKD.

        Raises:
            ValueError: the size is not a whole number of patches.
        """
        return self.connector(*encode_patches(self.vision_tower, pixel_values, self.config))

    def embed(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        unused_pixel_values: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed tokens and replace image tokens by image features.

        Args:
            input_ids: (B, S).
            pixel_values: images to encode, in order of appearance, row by row.
            image_features: features_NKD of encoded images, instead of pixel_values.
            unused_pixel_values: images to encode without using them; see `MM1ForConditionalGeneration.forward`.

        Returns:
            embeds_BSD and the features_NKD in it.

        Raises:
            ValueError: the numbers of image tokens and image features differ.
        """
        embeds_BSD = self.get_input_embeddings()(input_ids)
        if pixel_values is not None and pixel_values.shape[0] > 0:
            image_features = self.get_image_features(pixel_values)
        sequences, positions = (input_ids == self.config.image_token_id).nonzero(as_tuple=True)
        num_images, num_tokens = (0, 0) if image_features is None else image_features.shape[:2]
        if sequences.numel() != num_images * num_tokens:
            raise ValueError(
                f"The batch has {sequences.numel()} image tokens but {num_images * num_tokens} image features "
                f"({num_images} images of {self.config.image_tokens} tokens)"
            )
        if unused_pixel_values is not None:
            embeds_BSD = _WithUnused.apply(embeds_BSD, self.get_image_features(unused_pixel_values))
        if image_features is None:
            return embeds_BSD, None
        features = image_features.flatten(0, 1).to(embeds_BSD.dtype)
        return embeds_BSD.index_put((sequences, positions), features), image_features

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        document_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        image_features: torch.Tensor | None = None,
        unused_pixel_values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MM1ModelOutputWithPast:
        """Run the three parts; the arguments are those of `MM1ForConditionalGeneration.forward`.

        Raises:
            ValueError: both or neither of input_ids and inputs_embeds; images without input_ids; different numbers of
                image tokens and features; packed documents with a cache.
        """
        kwargs.pop("return_dict", None)
        if input_ids is not None and inputs_embeds is None:
            if self._images_are_in_the_cache(input_ids, pixel_values, image_features, past_key_values):
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                inputs_embeds, image_features = self.embed(input_ids, pixel_values, image_features, unused_pixel_values)
        elif inputs_embeds is None or input_ids is not None:
            raise ValueError("Pass exactly one of input_ids and inputs_embeds")
        elif any(images is not None for images in (pixel_values, image_features, unused_pixel_values)):
            raise ValueError("Images need input_ids, which mark their positions: pass those, or embed images in inputs_embeds")
        if document_ids is None:
            document_ids = documents_from_positions(position_ids, attention_mask, past_key_values)
        if document_ids is not None:
            if use_cache or past_key_values is not None:
                raise ValueError("Packed documents (document_ids) cannot be used with a key-value cache")
            use_cache = False
            attention_mask, kwargs["packed"] = packed_mask(self.language_model.config, document_ids, inputs_embeds.dtype)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        return MM1ModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_features=image_features,
            router_logits=getattr(outputs, "router_logits", None),
        )

    def _images_are_in_the_cache(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None,
        image_features: torch.Tensor | None,
        past_key_values: Cache | None,
    ) -> bool:
        """Whether this is a decoding step: `generate` passes the features of the prompt's images with each token.

        Tokens that continue a cache may have new images, for example a query after cached demonstrations.
        """
        if past_key_values is None or past_key_values.get_seq_length() == 0 or pixel_values is not None:
            return False
        return image_features is None or not bool((input_ids == self.config.image_token_id).any())


class MM1ForConditionalGeneration(MM1PreTrainedModel, GenerationMixin):
    """MM1 with its output layer: loss, logits, generation."""

    # The loss already divides by `num_items_in_batch`; transformers' Trainer checks this attribute.
    accepts_loss_kwargs = True

    def __init__(self, config: MM1Config) -> None:
        super().__init__(config)
        self.model = MM1Model(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=config.lm_head_bias)
        # Decoders name their embedding differently, so the tied weight is looked up, not a constant of the class.
        embedding = self.get_input_embeddings()
        name = next(name for name, module in self.named_modules() if module is embedding)
        self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"}
        self.post_init()
        # An answer is text: an image token in it would need an image.
        self.generation_config.suppress_tokens = [config.image_token_id]

    @classmethod
    def from_parts(
        cls,
        vision: Path | str | None,
        decoder: Path | str | None,
        config: MM1Config | None = None,
        dtype: torch.dtype = torch.float32,
        **config_fields: Any,
    ) -> Self:
        """Build a model from pretrained parts, with a fresh connector.

        Args:
            vision: folder of a vision tower, or of a model that contains one (CLIP, SigLIP); None = fresh.
            decoder: folder of a causal language model; None = fresh.
            config: configuration of the model; a part with a folder uses that folder's configuration instead.
            dtype: dtype of all weights.
            **config_fields: fields of `MM1Config` that override those of `config`.

        Returns:
            The model; its embeddings are resized if image_token_id is outside the decoder's vocabulary.

        Raises:
            ValueError: a part has neither a folder nor a configuration, its folder lacks weights, or the family of the
                decoder is not supported (decoders.py).
        """
        return build_from_parts(cls, vision, decoder, config, dtype, **config_fields)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of token ids."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of token ids."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the output layer."""
        return self.lm_head

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode images (N, 3, height, width) to features_NKD."""
        return self.model.get_image_features(pixel_values)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        document_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        image_features: torch.Tensor | None = None,
        unused_pixel_values: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool | None = None,
        output_router_logits: bool | None = None,
        **kwargs: Any,
    ) -> MM1CausalLMOutputWithPast | tuple:
        """Predict the next token of each position.

        Args:
            input_ids: (B, S); each image is `image_tokens` times the image token.
            pixel_values: (N, 3, height, width) images of the batch in order of appearance, row by row.
            attention_mask: (B, S), 0 for padding; not with document_ids.
            position_ids: (B, S); in packed sequences restarting at 0 in each document.
            document_ids: (B, S) document of each token in its row, 1, 2, 3 …, 0 for padding. Documents do not attend
                to each other. Without it, positions that restart have the same effect.
            inputs_embeds: (B, S, D) instead of input_ids, including image features.
            past_key_values: cache of the previous tokens.
            labels: (B, S), not shifted, -100 for positions that are not predicted; see `_add_losses`.
            use_cache: whether to fill a cache; by default not with labels or packed documents.
            logits_to_keep: number of last positions (0 for all), or indices, to compute logits for.
            image_features: (N, K, D) features of `get_image_features` instead of pixel_values.
            unused_pixel_values: (N, 3, height, width) images to encode without effect on output and gradients, for
                training on several processes: all must run the same layers, also one whose batch has no images.
            num_items_in_batch: divisor of the summed loss; by default the number of predicted tokens in this batch.
            return_logits: whether to compute logits; by default only without labels.
            output_router_logits: whether to return the scores of the routers.
            **kwargs: passed to the decoder.

        Raises:
            ValueError: see `MM1Model.forward`.
        """
        return_dict = kwargs.pop("return_dict", None)
        if document_ids is None:
            document_ids = documents_from_positions(position_ids, attention_mask, past_key_values)
        kwargs |= {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "pixel_values": pixel_values}
        kwargs |= {"image_features": image_features, "unused_pixel_values": unused_pixel_values}
        kwargs |= {"position_ids": position_ids, "document_ids": document_ids}
        kwargs |= {"attention_mask": attention_mask, "past_key_values": past_key_values}
        kwargs["use_cache"] = False if use_cache is None and labels is not None else use_cache
        if output_router_logits or (labels is not None and self.config.is_moe):
            kwargs["output_router_logits"] = True
        outputs = self.model(**kwargs)
        result = self._output_of(outputs)
        if return_logits or (return_logits is None and labels is None):
            result.logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        if labels is not None:
            self._add_losses(result, outputs.last_hidden_state, labels, document_ids, attention_mask, num_items_in_batch)
        return result.to_tuple() if return_dict is False else result

    def _output_of(self, outputs: MM1ModelOutputWithPast) -> MM1CausalLMOutputWithPast:
        """Copy the outputs of the model without its output layer."""
        return MM1CausalLMOutputWithPast(
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_features=outputs.image_features,
            router_logits=outputs.router_logits,
        )

    def _add_losses(
        self,
        result: MM1CausalLMOutputWithPast,
        hidden_BSD: torch.Tensor,
        labels_BS: torch.Tensor,
        document_ids_BS: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> None:
        """Set `loss` (token_loss plus the weighted router losses) and its parts.

        No token predicts the first token of the next document; padding counts neither for this loss nor for the routers.
        """
        targets_BS = next_token_targets(labels_BS.to(hidden_BSD.device), document_ids_BS)
        token_loss = next_token_loss(hidden_BSD, targets_BS, self.lm_head, num_items_in_batch)
        result.loss = result.token_loss = token_loss.loss
        result.sequence_loss, result.sequence_tokens = token_loss.sequence_loss, token_loss.sequence_tokens
        if not (self.config.is_moe and result.router_logits):
            return
        # A part of a larger batch (gradient accumulation, several ranks) has its share of the router losses as well.
        num_items = token_loss.sequence_tokens.sum()
        share = 1.0 if num_items_in_batch is None else num_items / num_items_in_batch
        token_ids_BS = document_ids_BS if document_ids_BS is not None else attention_mask
        token_mask_BS = None if token_ids_BS is None else token_ids_BS != 0
        result.balance_loss, result.z_loss = router_losses(result.router_logits, token_mask_BS)
        result.loss = result.loss + self.weighted_router_losses(result.balance_loss, result.z_loss) * share

    def weighted_router_losses(self, balance_loss: torch.Tensor, z_loss: torch.Tensor) -> torch.Tensor:
        """Return the part of the objective that the routers add: both losses times their weights in the configuration."""
        return self.config.router_balance_loss_weight * balance_loss + self.config.router_z_loss_weight * z_loss

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, input_ids: torch.Tensor | None = None, **model_kwargs: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        # Rows have different numbers of images, so images are repeated row by row, not one by one.
        images = {key: model_kwargs.pop(key, None) for key in ("pixel_values", "image_features")}
        original_ids = input_ids
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, input_ids=input_ids, **model_kwargs
        )
        for key, tensor in images.items():
            if tensor is not None and expand_size > 1 and original_ids is not None:
                num_tokens_B = (original_ids == self.config.image_token_id).sum(dim=1)
                rows = tensor.split((num_tokens_B // self.config.image_tokens).tolist())
                tensor = torch.cat([row for row in rows for _ in range(expand_size)])
            if tensor is not None:
                model_kwargs[key] = tensor
        return input_ids, model_kwargs


class _WithUnused(torch.autograd.Function):
    """Embeddings as they are, with features in their graph whose gradient is zero, whatever values they have."""

    @staticmethod
    def forward(ctx: Any, embeds_BSD: torch.Tensor, features_NKD: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(features_NKD.new_zeros(()))
        ctx.features_shape = features_NKD.shape
        return embeds_BSD.view_as(embeds_BSD)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (zero,) = ctx.saved_tensors
        return gradients[0], zero.expand(ctx.features_shape)


MM1ForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
