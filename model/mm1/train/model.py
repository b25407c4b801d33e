"""Building the model of a run from its parts: recipe, `init` checkpoint, Hugging Face folders.

    RunConfig.model + tokenizer, image size and image tokens of the mixture -> fresh parts
    init checkpoint -> language model, or everything -> (experts: upcycled)
    folders -> tower, decoder

See :mod:`mm1.train.model_origin` for which part comes from where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer, CLIPVisionConfig, Qwen3Config, Qwen3MoeConfig

from mm1.checkpoint.read import load_model
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix
from mm1.modeling.attention import PACKED_ATTENTION
from mm1.modeling.configuration import ConnectorType, MM1Config
from mm1.modeling.folders import image_mean_std
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.parts import adopt, adopt_language, build_from_parts, grow_vocabulary
from mm1.modeling.processing import IMAGE_TOKEN, MM1Processor, build_processor
from mm1.modeling.stopping import num_token_ids
from mm1.modeling.tokenization import is_family_template
from mm1.store.base import Store
from mm1.train.config import (
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    RunConfig,
    SequenceConfig,
    TrainConfig,
    VisionConfig,
)
from mm1.train.init_weights import unit_decoder
from mm1.train.lora import with_adapters
from mm1.train.model_origin import check_connector, check_patches, provides
from mm1.train.upcycle import upcycle

DEFAULT_MEAN_STD = VisionConfig.model_fields["image_mean"].default, VisionConfig.model_fields["image_std"].default


@dataclass(frozen=True)
class Init:
    """A checkpoint to start from, and the store of its blobs."""

    checkpoint: Checkpoint
    store: Store


def build_model(
    config: RunConfig,
    mix: DataMix,
    mix_store: Store,
    scratch: Path,
    *,
    init: Init | None = None,
    vision: str = "",
    decoder: str = "",
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Build the initial model of a run on the CPU, identical on every rank, in the dtype that its engine expects.

    Args:
        config: the resolved run; sections of parts that come from elsewhere are None.
        mix: the mixture, which sets the tokenizer, the image size and the image tokens.
        mix_store: store of the tokenizer's files.
        scratch: local folder for temporary files.
        init: checkpoint to start from.
        vision: folder of a vision tower, or empty.
        decoder: folder of a decoder, or empty.

    Raises:
        ConfigurationError: the parts do not fit each other or the mixture.
    """
    torch.manual_seed(config.train.seed)
    dtype = weights_dtype(config.train)
    try:
        tokenizer = load_tokenizer(mix, mix_store, scratch)
        if init is None:
            model = _assemble(config, mix, tokenizer, vision=vision, decoder=decoder, source=None, dtype=dtype)
            return model, _processor(config, mix, tokenizer, vision)
        merge = not config.train.lora.rank
        source, processor = load_model(init.store, init.checkpoint, scratch / "init", dtype, merge=merge)
        processor = fit_processor(processor, mix, tokenizer)
        if vision or not provides(init.checkpoint.stage, "connector"):
            model = _assemble(config, mix, tokenizer, vision=vision, decoder="", source=source, dtype=dtype)
            if vision or not provides(init.checkpoint.stage, "vision"):
                processor = _processor(config, mix, tokenizer, vision)
            else:
                images = processor.image_processor
                processor = _processor_of(mix, tokenizer, (images.image_mean, images.image_std))
        else:
            model = source
            if mix.has_images:
                _check_patches(model, mix)
        if config.model.decoder is not None:
            model = upcycle(model, config.model.decoder)
        model = with_adapters(model, config.train.lora, config.train.seed)
    except (ValueError, OSError, StrictDataclassError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the operating system; those that transformers raises have no errno
        raise ConfigurationError(f"cannot build the model: {' '.join(str(error).split())}") from None
    return model.train(), processor


def model_config(model: ModelConfig, sequence: SequenceConfig | None) -> MM1Config:
    """Build the configuration of a fresh model from a recipe's numbers alone: for counting, planning and shape checks.

    Raises:
        ConfigurationError: a number comes from elsewhere: a part from `init`, the vocabulary or the images from a mixture.
    """
    vision, connector, decoder = model.vision, model.connector, model.decoder
    if vision is None or connector is None or decoder is None or not decoder.vocab_size or sequence is None:
        raise ConfigurationError(
            "the recipe takes shapes from init or the mixture: set model.vision, model.connector, model.decoder with "
            "model.decoder.vocab_size, and sequence"
        )
    check_connector(model)
    return MM1Config(
        vision_config=_vision_fields(vision, sequence.image_size_px),
        text_config=_decoder_shape(decoder, decoder.vocab_size, {"eos_token_id": None, "pad_token_id": None}),
        image_tokens=sequence.image_tokens,
        router_balance_loss_weight=decoder.balance_loss_weight,
        router_z_loss_weight=decoder.z_loss_weight,
        **_connector_fields(connector),
    )


def weights_dtype(train: TrainConfig) -> torch.dtype:
    """Dtype of the model's own weights: bfloat16 where the engine keeps float32 master weights, else float32."""
    return torch.bfloat16 if train.dtype == "bfloat16" and train.zero_stage > 0 else torch.float32


def _assemble(
    config: RunConfig,
    mix: DataMix,
    tokenizer: Any,
    *,
    vision: str,
    decoder: str,
    source: MM1ForConditionalGeneration | None,
    dtype: torch.dtype,
) -> MM1ForConditionalGeneration:
    parts = config.model
    fields: dict[str, Any] = {
        "image_token_id": tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        "image_tokens": mix.image_tokens,
        **_connector_fields(parts.connector or ConnectorConfig()),
    }
    tower = source.model.vision_tower if source is not None and parts.vision is None and not vision else None
    if parts.vision is not None:
        fields["vision_config"] = _vision_fields(parts.vision, mix.image_size_px)
    if source is not None:
        if tower is not None:
            fields["vision_config"] = source.config.vision_config
        fields["text_config"] = source.config.text_config
        fields["lm_head_bias"] = source.config.lm_head_bias
        fields["router_balance_loss_weight"] = source.config.router_balance_loss_weight
        fields["router_z_loss_weight"] = source.config.router_z_loss_weight
    elif parts.decoder is not None:
        fields["text_config"] = _decoder_fields(parts.decoder, tokenizer)
        fields["router_balance_loss_weight"] = parts.decoder.balance_loss_weight
        fields["router_z_loss_weight"] = parts.decoder.z_loss_weight
    # With the tower of a folder, only the connector is initialised. Without one, everything is, even what init replaces: a seed
    # then gives the same tower and connector with and without init.
    language = source if vision and source is not None else decoder or None
    model = build_from_parts(MM1ForConditionalGeneration, vision or None, language, dtype=dtype, **fields)
    if parts.decoder is not None and parts.decoder.init == "unit" and source is None:
        unit_decoder(model)
    if source is not None and language is None:
        adopt_language(model, source)
    if tower is not None:
        adopt(model.model.vision_tower, tower)
    _check_patches(model, mix)
    _check_positions(model, mix)
    grow_vocabulary(model, num_token_ids(tokenizer))
    return model.train()


def _check_positions(model: MM1ForConditionalGeneration, mix: DataMix) -> None:
    """Refuse a decoder with a table of positions that is shorter than the mixture's sequences.

    Rotary positions go on beyond the length that a decoder was trained on, a table (GPT-2) ends there. Packed documents that
    are longer than a sliding window need the packed attention, which not every family can use.
    """
    decoder, length = model.model.language_model, mix.sequence_length
    window = getattr(decoder.config, "sliding_window", None)
    if window is not None and window < length and decoder.config._attn_implementation != PACKED_ATTENTION:
        raise ConfigurationError(
            f"data: sequences of {length} tokens, but a decoder of type {decoder.config.model_type} packs documents only up to "
            f"its sliding window: build the mixture with sequence_length={window}"
        )
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    if limit is None or length <= limit:
        return
    tables = [module for module in decoder.modules() if isinstance(module, torch.nn.Embedding)]
    if any(table.num_embeddings < length for table in tables if table is not model.get_input_embeddings()):
        raise ConfigurationError(
            f"data: sequences of {length} tokens, but the decoder has positions for {limit}: "
            f"build the mixture with sequence_length={limit}"
        )


def _check_patches(model: MM1ForConditionalGeneration, mix: DataMix) -> None:
    own_size = getattr(model.config.vision_config, "image_size", None)
    check_patches(mix.image_size_px, max(model.config.patch_size), own_size if isinstance(own_size, int) else None)


def _vision_fields(vision: VisionConfig, image_size_px: int) -> dict[str, Any]:
    check_patches(image_size_px, vision.patch_size_px, None)
    return CLIPVisionConfig(
        hidden_size=vision.hidden_size,
        intermediate_size=vision.ffn_size,
        num_hidden_layers=vision.num_layers,
        num_attention_heads=vision.num_heads,
        image_size=image_size_px,
        patch_size=vision.patch_size_px,
    ).to_dict()


def _connector_fields(connector: ConnectorConfig) -> dict[str, Any]:
    connector_type: ConnectorType = connector.type  # mypy checks that both know the same names
    return {
        "connector_type": connector_type,
        "connector_hidden_size": connector.hidden_size,
        "connector_depth": connector.depth,
        "connector_mlp_depth": connector.mlp_depth,
        "connector_num_heads": connector.num_heads,
    }


def _decoder_fields(decoder: DecoderConfig, tokenizer: Any) -> dict[str, Any]:
    if 0 < decoder.vocab_size < len(tokenizer):
        raise ConfigurationError(
            f"model.decoder.vocab_size={decoder.vocab_size}, but the mixture's tokenizer has {len(tokenizer)} tokens: "
            f"set model.decoder.vocab_size={-len(tokenizer) // 128 * -128}"
        )
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return _decoder_shape(decoder, decoder.vocab_size or len(tokenizer), special)


def _decoder_shape(decoder: DecoderConfig, vocab_size: int, special: dict[str, int | None]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.ffn_size,
        "num_hidden_layers": decoder.num_layers,
        "num_attention_heads": decoder.num_heads,
        "num_key_value_heads": decoder.num_kv_heads,
        "head_dim": decoder.head_size,
        "max_position_embeddings": decoder.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": decoder.rope_theta},
        "tie_word_embeddings": decoder.tie_embeddings,
        "bos_token_id": None,
        **special,
    }
    if not decoder.num_experts:
        return Qwen3Config(**fields).to_dict()
    return Qwen3MoeConfig(
        **fields,
        num_experts=decoder.num_experts,
        num_experts_per_tok=decoder.experts_per_token,
        moe_intermediate_size=decoder.expert_ffn_size or decoder.ffn_size,
        decoder_sparse_step=decoder.sparse_every,
        norm_topk_prob=True,
    ).to_dict()


def _processor(config: RunConfig, mix: DataMix, tokenizer: Any, folder: str) -> MM1Processor:
    vision = config.model.vision
    recipe = (vision.image_mean, vision.image_std) if vision else DEFAULT_MEAN_STD
    return _processor_of(mix, tokenizer, (image_mean_std(folder) if folder else None) or recipe)


def _processor_of(mix: DataMix, tokenizer: Any, mean_std: tuple[Sequence[float], Sequence[float]]) -> MM1Processor:
    own = tokenizer.chat_template if is_family_template(tokenizer.chat_template) else None
    return build_processor(tokenizer, mix.image_tokens, mix.image_size_px, *mean_std, own, image_layout=mix.image_layout)


def load_tokenizer(mix: DataMix, store: Store, scratch: Path) -> Any:
    """Load the tokenizer of a mixture, from files in the folder ``scratch``."""
    return AutoTokenizer.from_pretrained(store.get_folder(mix.tokenizer, scratch / "tokenizer"), local_files_only=True)


def fit_processor(processor: MM1Processor, mix: DataMix, tokenizer: Any) -> MM1Processor:
    """Set image size and layout of a mixture in the processor of a checkpoint; the tower interpolates its positions.

    Raises:
        ConfigurationError: the mixture has another tokenizer.
    """
    if tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise ConfigurationError(
            "data: its tokenizer is not the one that the checkpoint was trained with; ingest it with "
            "tokenizer=<address of the checkpoint>"
        )
    if mix.has_images:
        processor.image_processor.size = {"height": mix.image_size_px, "width": mix.image_size_px}
        processor.image_layout = mix.image_layout
    return processor
