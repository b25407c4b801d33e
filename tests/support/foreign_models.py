"""Tiny random vision-language models of transformers' own classes, as folders that AutoModelForImageTextToText loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "what colour is the ring ? red . green . blue . yellow circle square",
    "this is dax . this is wug . a photo of a big blue ring .",
    "user assistant system describe the image question answer short",
]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_CHAT = (
    "{% for message in messages %}{{ message.role | upper }}: "
    "{% for part in message.content | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'text') %}{{ part.text }} {% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""As LLaVA 1.5's: all images of a turn come before its texts."""
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
}


def tokenizer(specials: list[str], *, bos: bool = False, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose special tokens come first; with a beginning of text that it adds itself, like Llama's."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 10, trainer)
    if bos:
        bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>", *specials],
        **named,
    )


def _ids(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {"vocab_size": len(tokens), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def llava(folder: Path) -> Path:
    """LLaVA 1.5: CLIP, a Llama whose tokenizer adds the beginning of text, images of one size."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaProcessor
    from transformers import LlavaForConditionalGeneration as Model

    tokens = tokenizer(["<image>"], bos=True)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_TEXT, **_ids(tokens)),
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
    )
    image = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        image,
        tokens,
        patch_size=8,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_CHAT,
    )
    return _save(Model, config, processor, folder)


def idefics2(folder: Path) -> Path:
    """Idefics2: images of any size, a perceiver, sub-images off."""
    from transformers import Idefics2Config, Idefics2ImageProcessor, Idefics2Processor
    from transformers import Idefics2ForConditionalGeneration as Model

    tokens = tokenizer(["<image>", "<fake_token_around_image>", "<end_of_utterance>"])
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    perceiver = {
        "hidden_size": 32,
        "resampler_n_latents": 4,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 16,
        "num_key_value_heads": 1,
    }
    config = Idefics2Config(
        vision_config=vision,
        perceiver_config=perceiver,
        text_config={"model_type": "mistral", "sliding_window": None, **_TEXT, **_ids(tokens)},
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
    )
    image = Idefics2ImageProcessor(do_image_splitting=False, size={"shortest_edge": 16, "longest_edge": 32})
    processor = Idefics2Processor(image, tokens, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>"))
    return _save(Model, config, processor, folder)


def idefics3(folder: Path) -> Path:
    """Idefics3, which SmolVLM is built like: an overview and tiles, each with its row and column."""
    from transformers import Idefics3Config, Idefics3ImageProcessor, Idefics3Processor
    from transformers import Idefics3ForConditionalGeneration as Model

    tokens = _smol_tokenizer()
    image = Idefics3ImageProcessor(do_image_splitting=True, size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(image, tokens, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>"))
    return _save(Model, Idefics3Config(**_smol_fields(tokens)), processor, folder)


def smolvlm(folder: Path) -> Path:
    """SmolVLM: Idefics3's layout, and a processor of videos."""
    from transformers import SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor
    from transformers import SmolVLMForConditionalGeneration as Model

    tokens = _smol_tokenizer()
    size = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    image, video = SmolVLMImageProcessor(do_image_splitting=True, **size), SmolVLMVideoProcessor(**size)
    processor = SmolVLMProcessor(image, tokens, video, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>"))
    return _save(Model, SmolVLMConfig(**_smol_fields(tokens)), processor, folder)


def _smol_tokenizer() -> PreTrainedTokenizerFast:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    return tokenizer(["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles])


def _smol_fields(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        "text_config": {"model_type": "llama", **_TEXT, **_ids(tokens)},
        "scale_factor": 2,
        "image_token_id": tokens.convert_tokens_to_ids("<image>"),
        "pad_token_id": 0,
    }


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL: images of any size between two marks, positions of time, height and width."""
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor
    from transformers import Qwen2VLForConditionalGeneration as Model

    tokens = _qwen_tokenizer()
    text = _TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        text_config={**text, **_ids(tokens)},
        **_qwen_ids(tokens),
    )
    size = {"patch_size": 4, "merge_size": 2, "min_pixels": 64, "max_pixels": 1024}
    image, video = Qwen2VLImageProcessor(**size), Qwen2VLVideoProcessor(**size)
    processor = Qwen2VLProcessor(image, tokens, video, chat_template=_QWEN_CHAT)
    return _save(Model, config, processor, folder)


def qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL: as Qwen2-VL, with features of several layers of the tower."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor
    from transformers import Qwen3VLForConditionalGeneration as Model

    tokens = _qwen_tokenizer()
    text = _TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}}
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config={**text, **_ids(tokens)},
        **_qwen_ids(tokens),
    )
    image = Qwen2VLImageProcessor(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024})
    video = Qwen3VLVideoProcessor(patch_size=4, merge_size=2)
    processor = Qwen3VLProcessor(image, tokens, video, chat_template=_QWEN_CHAT)
    return _save(Model, config, processor, folder)


_QWEN_CHAT = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")


def _qwen_tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"])


def _qwen_ids(tokens: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    return {field: tokens.convert_tokens_to_ids(token) for field, token in names.items()}


def _save(model_class: Any, config: Any, processor: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.generation_config.eos_token_id = [2, processor.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "llava": llava,
    "idefics2": idefics2,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "qwen2_vl": qwen2_vl,
    "qwen3_vl": qwen3_vl,
}
NEEDS = {"smolvlm": ("torchvision", "num2words"), "qwen2_vl": ("torchvision",), "qwen3_vl": ("torchvision",)}
"""Packages that the processors of a family import."""
