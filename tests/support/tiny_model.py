"""The smallest MM1 models and packed batches, for tests of every room that needs one."""

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CLIPVisionConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3MoeConfig, SiglipVisionConfig

from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration

SPECIAL_TOKENS = ["<|endoftext|>", "<image>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    "what colour is the ring ? red .",
    "this is dax . this is wug .",
    "question : what shape is it ? answer : square .",
    "user assistant system describe the image a photo of a big blue ring .",
]

_VISION: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
_TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # large, so that a fresh model's answers depend on its input
}


def tiny_config(
    connector_type: str = "c_abstractor",
    vision: str = "clip",
    moe: bool = False,
    text: dict[str, Any] | None = None,
    tower_px: int = 16,
    **fields: Any,
) -> MM1Config:
    """Width 32, two layers, 16-pixel images of 4 x 4 patches, 4 tokens an image."""
    vision_config = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}[vision](**_VISION | {"image_size": tower_px})
    text_fields = {**_TEXT, **(text or {})}
    if moe:
        text_config: Any = Qwen3MoeConfig(
            **{
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "decoder_sparse_step": 2,
                "moe_intermediate_size": 48,
                "norm_topk_prob": True,
                **text_fields,
            }
        )
    else:
        text_config = Qwen3Config(**text_fields)
    return MM1Config(
        **{
            "vision_config": vision_config,
            "text_config": text_config,
            "image_tokens": 4,
            "connector_type": connector_type,
            "connector_hidden_size": 16,
            "connector_depth": 1,
            "connector_num_heads": 4,
            **fields,
        }
    )


def tiny_model(*args: Any, seed: int = 0, **kwargs: Any) -> MM1ForConditionalGeneration:
    """A fresh model in evaluation mode; the arguments are those of `tiny_config`."""
    torch.manual_seed(seed)
    return MM1ForConditionalGeneration(tiny_config(*args, **kwargs)).eval()


def packed_batch(rows: list[list[int]], images: bool = True, seed: int = 0, vocab_size: int = 64) -> dict[str, torch.Tensor]:
    """A packed batch: for each row the lengths of its documents, each led by one image (if it has room for it)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(rows), max(map(sum, rows)))
    input_ids = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100)
    position_ids, document_ids = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.int32)
    num_images = 0
    for row, lengths in enumerate(rows):
        start = 0
        for number, length in enumerate(lengths, start=1):
            span = slice(start, start + length)
            input_ids[row, span] = torch.randint(4, vocab_size, (length,), generator=generator)
            labels[row, span] = input_ids[row, span]
            if images and length > 4:
                input_ids[row, start : start + 4] = 1
                labels[row, start : start + 4] = -100
                num_images += 1
            position_ids[row, span] = torch.arange(length)
            document_ids[row, span] = number
            start += length
    batch = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids, "document_ids": document_ids}
    if num_images:
        batch["pixel_values"] = torch.randn(num_images, 3, 16, 16, generator=generator)
    return batch


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with the special tokens of the project, as ingest trains it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 10, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL_TOKENS[1:],
    )
