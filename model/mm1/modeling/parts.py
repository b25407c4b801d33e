"""Building models from pretrained parts: a vision tower and a decoder, with a fresh connector between them.

    vision folder, decoder folder, fields of MM1Config -> build_from_parts -> MM1ForConditionalGeneration

Called through `MM1ForConditionalGeneration.from_parts`. Weights are in memory only once: the model is built without allocating
pretrained parts, and the loaded tensors become its parameters.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, CLIPVisionModel, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from .configuration import MM1Config
from .decoders import UnsupportedDecoderError, check_decoder
from .folders import check_folder, is_open_clip, read_config, read_pretrained
from .open_clip import read_open_clip
from .vision import keep_patches_only

VOCABULARY_MULTIPLE = 128
"""Rows of embeddings that grow are a multiple of this, for which matrix products are fast."""


def build_from_parts(
    model_class: type[PreTrainedModel],
    vision: Path | str | None,
    decoder: Path | str | PreTrainedModel | None,
    config: MM1Config | None = None,
    dtype: torch.dtype = torch.float32,
    **config_fields: Any,
) -> Any:
    """Build a model of `model_class`; see `MM1ForConditionalGeneration.from_parts`.

    Args:
        model_class: class of the model.
        vision: folder of a tower (CLIP, SigLIP, open_clip's CLIP), or of a model with one.
        decoder: folder of a causal decoder, or a loaded model with one, whose weights the result then shares.
        config: configuration of the model.
        dtype: dtype of all weights. Fresh ones are initialised in float32: in bfloat16 truncated normals have outliers.
        **config_fields: fields that override those of `config`.

    Raises:
        ValueError: a part has neither a folder nor a configuration, or a folder has no matching weights; see folders.py.
    """
    fields = {**(_fields(config) if config is not None else {}), **config_fields}
    for part, origin in (("vision", vision), ("text", decoder)):
        if origin is None and fields.get(f"{part}_config") is None:
            raise ValueError(f"Pass a folder for the part {part!r}, or {part}_config in the configuration")
    tower = language = None
    if vision is not None:
        fields["vision_config"], tower = read_tower(Path(vision), dtype)
    if isinstance(decoder, PreTrainedModel):
        fields["text_config"], language = decoder.config.get_text_config(), decoder
    elif decoder is not None:
        fields["text_config"], language = read_decoder(Path(decoder), dtype)
    if language is not None:
        fields["tie_word_embeddings"] = bool(getattr(fields["text_config"], "tie_word_embeddings", False))
        fields["lm_head_bias"] = getattr(language.get_output_embeddings(), "bias", None) is not None
    with nullcontext() if tower is None and language is None else no_init_weights():
        model: Any = model_class(MM1Config(**fields))
    if tower is not None:
        adopt(model.model.vision_tower, tower)
    if language is not None:
        try:
            adopt_language(model, language)
        except (RuntimeError, AttributeError) as error:
            raise UnsupportedDecoderError(str(decoder), language.config.model_type, str(error)) from error
    model.init_weights()
    # Not `model.to(dtype)`, which would also round the rotary frequencies.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    if language is not None and language is not decoder:
        check_decoder(model, language, str(decoder))
        language.generation_config.suppress_tokens = model.generation_config.suppress_tokens
        model.generation_config = language.generation_config
    grow_vocabulary(model, model.config.image_token_id + 1)
    return model


def grow_vocabulary(model: Any, num_tokens: int) -> None:
    """Give a model rows for at least this many token ids, in multiples of 128; one that has them is not changed.

    Rows beyond the tokenizer belong to no token: no label is one of them and generation suppresses them (export.py).
    """
    if num_tokens > model.config.text_config.vocab_size:
        model.resize_token_embeddings(num_tokens, pad_to_multiple_of=VOCABULARY_MULTIPLE)


def adopt_language(model: Any, source: PreTrainedModel) -> None:
    """Replace the decoder and the output layer of a model by those of `source`; the weights are shared, not copied."""
    decoder, base = model.model.language_model, source.base_model
    adopt(decoder, base if type(base) is type(decoder) else source.get_decoder())
    adopt(model.lm_head, source.get_output_embeddings())
    model.tie_weights()


def adopt(module: Any, source: nn.Module) -> None:
    """Replace the weights of a module by those of `source`, which has the same shapes; nothing is copied."""
    module.load_state_dict(source.state_dict(), assign=True)
    for part in module.modules():
        part._is_hf_initialized = True  # transformers' mark of loaded modules, which it does not initialise


def read_tower(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedConfig, Any]:
    """Read a vision tower from its folder, without the parts that only serve its class token.

    Returns:
        Its configuration as stored in the folder (that of a loaded model also has its attention), and the tower.

    Raises:
        ValueError: the folder has no matching weights; see folders.py and open_clip.py.
    """
    check_folder(folder, "vision")
    if is_open_clip(folder):
        config, state = read_open_clip(folder)
        tower, missing = read_pretrained(CLIPVisionModel, None, "vision", dtype, config=config, state_dict=state)
    else:
        config = read_config(folder, "vision")
        config = getattr(config, "vision_config", config)
        tower, missing = read_pretrained(AutoModel, folder, "vision", dtype, config=config)
    keep_patches_only(tower)
    _check_complete(missing & tower.state_dict().keys(), "vision", folder)
    return config, tower


def read_decoder(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedConfig, Any]:
    """Read a causal decoder from its folder.

    Returns:
        Its configuration as stored in the folder, and the causal language model.

    Raises:
        ValueError: the folder has no matching weights; see folders.py.
    """
    check_folder(folder, "decoder")
    config = read_config(folder, "decoder")
    decoder, missing = read_pretrained(AutoModelForCausalLM, folder, "decoder", dtype, config=config)
    _check_complete(missing, "decoder", folder)
    return config.get_text_config(), decoder


def _check_complete(missing: set[str], part: str, folder: Path) -> None:
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise ValueError(f"{part}: {folder} lacks {len(missing)} weights of its configuration ({names}): download it again")


def _fields(config: MM1Config) -> dict[str, Any]:
    fields = config.to_dict()
    for name in ("model_type", "transformers_version", "architectures", "auto_map", "dtype"):
        fields.pop(name, None)
    return fields
