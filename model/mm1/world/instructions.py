"""The parts ``instructions`` and ``marks``: conversations in LLaVA's format (:mod:`mm1.world.llava`).

Most instructions are about one image, with one to three questions; some are about none, and some about several
(:mod:`mm1.world.several_images`), which come last. The part ``marks`` asks for the fine mark of each image alone.
"""

from __future__ import annotations

from pathlib import Path

from mm1.world import several_images, streams
from mm1.world.config import MARK_SIDE_PX, WorldConfig
from mm1.world.instruction_forms import forms_of, mark_question
from mm1.world.language import ANIMALS
from mm1.world.llava import Chat, Turn, about_image, write_chats
from mm1.world.render import encoded_images
from mm1.world.scene import Scene, SceneSampler, Split, held_out_pairs
from mm1.world.texts import facts_about

TEXT_ONLY_SHARE = 0.12
TURNS = {1: 0.5, 2: 0.3, 3: 0.2}
"""Number of questions about an image -> probability."""


def _about_text(sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    if rng.random() < 0.5:
        home, food, where, what = facts_about(rng.choice(ANIMALS))
        (question, _), (start, answer) = rng.choice(((where, home), (what, food)))
        return f"{question} answer in a full sentence .", f"{start} {answer} ."
    left, right = rng.randrange(10), rng.randrange(10)
    return f"what is {left} plus {right} ? answer with one word .", str(left + right)


def _about_one_image(sampler: SceneSampler, image_size_px: int) -> tuple[Chat, list[Scene], list[str]]:
    """Draw a conversation about an image; returns its forms, too."""
    scene, known = sampler.any(), forms_of(image_size_px)
    length = sampler.rng.choices(list(TURNS), list(TURNS.values()))[0]
    forms = sampler.rng.sample(list(known), length)
    return about_image([known[form](scene, sampler) for form in forms]), [scene], forms


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the instruction part into an existing folder.

    Returns:
        Number of conversations, images and turns, of conversations of each kind, and of turns of each form.
    """
    rng = streams.choices(config.seed, "instructions")
    sampler = SceneSampler(rng, Split.TRAIN, held_out_pairs(config))
    counts = dict.fromkeys(["conversations", "images", "turns", "text only", *forms_of(config.image_size_px)], 0)
    chats: list[Chat] = []
    scenes: list[Scene] = []
    for _ in range(config.num_instructions):
        if rng.random() < TEXT_ONLY_SHARE:
            chats.append(Chat((Turn(*_about_text(sampler)),)))
            counts["text only"] += 1
            continue
        chat, drawn, forms = _about_one_image(sampler, config.image_size_px)
        chats.append(chat)
        scenes += drawn
        for form in forms:
            counts[form] += 1
    for kind, (share, draw) in several_images.KINDS.items():
        counts[kind] = round(share * config.num_instructions)
        for _ in range(counts[kind]):
            chat, drawn = draw(sampler)
            chats.append(chat)
            scenes += drawn
    noise = streams.pixels(config.seed, "instructions")
    write_chats(folder, chats, encoded_images(scenes, config.image_size_px, noise))
    num_turns = sum(len(chat.turns) for chat in chats)
    return counts | {"conversations": len(chats), "images": len(scenes), "turns": num_turns}


def write_marks(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the part ``marks`` into an existing folder: one question about the fine mark of each image, of 64 pixels or more.

    Returns:
        Number of conversations.
    """
    sampler = SceneSampler(streams.choices(config.seed, "marks"), Split.TRAIN, held_out_pairs(config))
    scenes = [sampler.any() for _ in range(config.num_marks)]
    side, noise = max(config.image_size_px, MARK_SIDE_PX), streams.pixels(config.seed, "marks")
    chats = [about_image([mark_question(scene)]) for scene in scenes]
    write_chats(folder, chats, encoded_images(scenes, side, noise))
    return {"conversations": len(scenes)}
