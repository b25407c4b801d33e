"""A tiny random MM1 with a tokenizer of its own, and a tiny written benchmark folder, for tests of generation and serving."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer
from transformers import CLIPVisionConfig, PreTrainedTokenizerFast, Qwen3Config

from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor, build_processor

SPECIALS = ["<|endoftext|>", "<image>", "<|im_start|>", "<|im_end|>"]
COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "ring")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens, the way ingest trains one."""
    words = [*COLOURS, *SHAPES, "what", "colour", "is", "the", "?", ".", "a", "photo", "of", "dax", "wug", "this", "big"]
    rng = random.Random(0)
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(400)]
    bpe = ByteLevelBPETokenizer(add_prefix_space=True)
    bpe.train_from_iterator(lines, vocab_size=400, min_frequency=2, special_tokens=SPECIALS, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIALS[1:],
    )


def tiny_mm1(seed: int = 0, context: int = 512) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """A model of 2 layers and width 32 with large random weights, so that its answers differ from prompt to prompt."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = MM1Config(
        vision_config=CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
        ).to_dict(),
        text_config=Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=context,
            eos_token_id=0,
            pad_token_id=0,
            bos_token_id=None,
            tie_word_embeddings=False,
        ).to_dict(),
        image_token_id=1,
        image_tokens=4,
        connector_type="average_pool",
        connector_hidden_size=32,
    )
    model = MM1ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model.eval(), build_processor(tokenizer, image_tokens=4, image_size=16)


def picture(seed: int, side: int = 16, form: str = "PNG") -> bytes:
    """An encoded image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def _vqa(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    questions = [{"image_id": row["image"], "question": row["question"], "question_id": row["id"]} for row in rows]
    annotations = [
        {
            "question_id": row["id"],
            "image_id": row["image"],
            "question_type": row["type"],
            "answer_type": "other",
            "multiple_choice_answer": row["answer"],
            "answers": [{"answer": row["answer"], "answer_confidence": "yes", "answer_id": n + 1} for n in range(10)],
        }
        | ({"choices": row["choices"]} if "choices" in row else {})
        for row in rows
    ]
    (folder / f"{name}_questions.json").write_text(json.dumps({"questions": questions}))
    (folder / f"{name}_annotations.json").write_text(json.dumps({"annotations": annotations}))


def write_benchmarks(folder: Path, num_items: int = 12) -> Path:
    """Benchmark files of the real formats: tasks vqa, novel (with choices), captions, text; split test."""
    split = folder / "test"
    (split / "images").mkdir(parents=True)
    rng = random.Random(1)
    for image in range(1, 4 * num_items + 1):
        (split / "images" / f"{image:012d}.png").write_bytes(picture(image))
    for offset, name in ((0, "vqa"), (num_items, "vqa_demo")):
        rows = [
            {
                "id": n + 1,
                "image": offset + n + 1,
                "type": ("colour", "shape")[n % 2],
                "question": ("what colour is the ring ?", "what is this ?")[n % 2],
                "answer": rng.choice((COLOURS, SHAPES)[n % 2]),
            }
            for n in range(num_items)
        ]
        _vqa(split, name, rows)
    for offset, name, count in ((2 * num_items, "novel", 2), (3 * num_items, "novel_demo", 8)):
        rows = [
            {
                "id": n + 1,
                "image": offset + n + 1,
                "type": "novel 0001",
                "question": "this is",
                "answer": ("dax", "wug")[n % 2],
                "choices": ["dax", "wug"],
            }
            for n in range(count)
        ]
        _vqa(split, name, rows)
    for offset, name in ((0, "captions"), (num_items, "captions_demo")):
        ids = range(offset + 1, offset + num_items + 1)
        images = [{"id": i, "file_name": f"{i:012d}.png", "width": 16, "height": 16} for i in ids]
        captions = [{"id": i, "image_id": i, "caption": f"a big {COLOURS[i % 4]} {SHAPES[i % 3]}"} for i in ids]
        (split / f"{name}.json").write_text(json.dumps({"images": images, "annotations": captions}))
    texts = [
        {
            "id": f"t{n}",
            "kind": "binding",
            "prompt": f"big ring dax . {COLOURS[n]} ring wug . big ring",
            "answer": "dax",
            "choices": ["dax", "wug"],
        }
        for n in range(4)
    ]
    texts.append({"id": "t9", "kind": "copy", "prompt": "red green red", "answer": "green"})
    (split / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    return folder
