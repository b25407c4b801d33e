"""The cases of the contract test: what users do with an exported model, on fixed texts and images.

Plain prompts, few-shot prompts with several images, chats up to the end of the turn, a left-padded batch, beams, and bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHORT, TURN = 8, 64
"""Generated tokens: of a plain prompt, and at most of a turn."""
NUM_BEAMS = 3
NUM_SHOTS = 4
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "what is it ?"}],
    [
        {"role": "system", "content": "answer briefly ."},
        {"role": "user", "content": "what colour is the ring ?"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "\nuser\nand the dog ?"},
    ],
]
"""Conversations of text, which the tokenizer alone must encode as the processor does."""


def make_cases(processor: Any, config: Any, work: Path) -> dict[str, list[dict[str, Any]]]:
    """Make the cases.

    Args:
        processor: the processor, whose chat template renders the chats.
        config: configuration of the model; cases that do not fit its context are left out.
        work: folder for the images.

    Returns:
        dtype -> cases; see `contract_probe.answer_cases`.
    """
    paths = _write_images(work)
    image = processor.image_token
    shots = "".join(f"{image}question : what is it ? answer : a red ring . " for _ in range(NUM_SHOTS))
    few_shot = f"{shots}{image}question : what is it ? answer :"
    chats = [_rendered(processor, chat) for chat in chats_for(processor)]
    picture_chat = _rendered(processor, [{"role": "user", "content": f"{image}what is this ?"}])
    first, rest = paths[:1], paths[: NUM_SHOTS + 1]
    several = [chats[0], few_shot, picture_chat]
    cases = [
        _case("text", ["the small dog is"], []),
        _case("image", [f"{image}what is this ?"], first),
        _case("two images", [f"{image}a red ring . {image}what colour is it ?"], paths[:2]),
        _case("few-shot", [few_shot], rest),
        *(_case(f"chat {number}", [chat], [], TURN) for number, chat in enumerate(chats)),
        _case("chat with an image", [picture_chat], first, TURN),
        _case("padded batch", several, [*rest, *first], TURN),
        _case("beams", [picture_chat], first, SHORT, NUM_BEAMS),
        _case("beams of a padded batch", several, [*rest, *first], SHORT, NUM_BEAMS),
    ]
    context = getattr(config.text_config, "max_position_embeddings", None)
    cases = [case for case in cases if context is None or _length(processor, case) <= context]
    low = [_case("image", [f"{image}what is this ?"], first), _case("few-shot", [few_shot], rest)]
    return {"float32": cases, "bfloat16": [case for case in low if context is None or _length(processor, case) <= context]}


def chats_for(processor: Any) -> list[list[dict[str, str]]]:
    """Return the conversations that the chat template renders: that of a family may refuse a system prompt."""
    from jinja2 import TemplateError

    rendered = []
    for chat in CHATS:
        try:
            _rendered(processor, chat)
        except TemplateError:
            continue
        rendered.append(chat)
    return rendered


def _case(name: str, texts: list[str], images: list[str], max_new_tokens: int = SHORT, num_beams: int = 1) -> dict[str, Any]:
    return {"name": name, "texts": texts, "images": images, "max_new_tokens": max_new_tokens, "num_beams": num_beams}


def _rendered(processor: Any, chat: list[dict[str, str]]) -> str:
    return str(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))


def _length(processor: Any, case: dict[str, Any]) -> int:
    """Return the number of tokens of the longest prompt with its images and its answer."""
    inputs = processor(images=case["images"] or None, text=case["texts"])
    return int(inputs["input_ids"].shape[1]) + int(case["max_new_tokens"])


def _write_images(work: Path) -> list[str]:
    """Write images of fixed noise and several sizes, so that the result is reproducible."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(NUM_SHOTS + 1):
        height, width = 48 + 16 * (number % 2), 48 + 8 * number
        path = work / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths
