r"""The instruction part: conversations in LLaVA's form, with their images in a folder.

``llava_instruct.json`` is a list of ``{"id", "image": "images/<id>.jpg", "conversations": [{"from": "human", "value":
"<image>\\n…"}, {"from": "gpt", "value": "…"}, …]}``; conversations without an image lack the field. Each form of
instruction has exactly one right answer, so that an evaluation can judge by exact match; none is written the way the
pre-training texts are, so that a base model has to be tuned to give it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.language import ANIMALS, COLOURS, PLACES, SHAPES
from mm1.world.render import encoded_images
from mm1.world.scene import Scene, SceneSampler, Split, held_out_pairs
from mm1.world.texts import facts_about

TEXT_ONLY_SHARE = 0.12
TURNS = {1: 0.5, 2: 0.3, 3: 0.2}
"""Questions about one image, and how often."""

IMAGE_TOKEN = "<image>"
"""LLaVA's placeholder for the image in a conversation."""


def _describe(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    told = [f"a {language.phrase(thing)} at the {PLACES[thing.place]}" for thing in scene.objects]
    return "describe the image in detail .", f"the image shows {language.join(told)} ."


def _one_word(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    asked, answer = language.question(rng.choice(("colour", "size", "where", "count")), scene, rng.choice(scene.objects))
    return f"{asked} answer with one word .", answer


def _sentence(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    thing = rng.choice(scene.objects)
    kind = rng.choice(("colour", "size", "where"))
    asked, answer = language.question(kind, scene, thing)
    joint = "is at the" if kind == "where" else "is"
    return f"{asked} answer in a full sentence .", f"the {SHAPES[thing.shape]} {joint} {answer} ."


def _list(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    kind = sampler.rng.choice(("shapes", "colours"))
    column = 2 if kind == "shapes" else 1
    # Objects in the order of their places; a colour that two objects share is said twice.
    return f"list the {kind} .", " , ".join(language.words_of(thing)[column] for thing in scene.objects)


def _yes_no(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    column, words = rng.choice(((1, COLOURS), (2, SHAPES)))
    present = {language.words_of(thing)[column] for thing in scene.objects}
    there = rng.random() < 0.5
    word = rng.choice([word for word in words if (word in present) == there])
    name = f"{word} object" if column == 1 else word
    return f"is there a {name} ? answer yes or no .", "yes" if there else "no"


INSTRUCTION_FORMS: dict[str, Callable[[Scene, SceneSampler], tuple[str, str]]] = {
    "describe": _describe,
    "one word": _one_word,
    "sentence": _sentence,
    "list": _list,
    "yes or no": _yes_no,
}
"""The forms by name: each turns a scene into an instruction and its one right answer."""


def _about_text(sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    if rng.random() < 0.5:
        home, food, where, what = facts_about(rng.choice(ANIMALS))
        (asked, _), (start, answer) = rng.choice(((where, home), (what, food)))
        return f"{asked} answer in a full sentence .", f"{start} {answer} ."
    one, two = rng.randrange(10), rng.randrange(10)
    return f"what is {one} plus {two} ? answer with one word .", str(one + two)


def _turns(pairs: list[tuple[str, str]], with_image: bool) -> list[dict[str, str]]:
    turns = []
    for number, (asked, answer) in enumerate(pairs):
        value = f"{IMAGE_TOKEN}\n{asked}" if with_image and number == 0 else asked
        turns += [{"from": "human", "value": value}, {"from": "gpt", "value": answer}]
    return turns


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Writes the instruction part into an existing folder.

    Returns:
        The number of conversations, images and turns, and of turns of each form.
    """
    rng = streams.choices(config.seed, "instructions")
    sampler = SceneSampler(rng, Split.TRAIN, held_out_pairs(config))
    counts = dict.fromkeys(["conversations", "images", "turns", "text only", *INSTRUCTION_FORMS], 0)
    items: list[dict[str, object]] = []
    scenes: list[Scene] = []
    for number in range(config.num_instructions):
        key = f"{number:09d}"
        if rng.random() < TEXT_ONLY_SHARE:
            pairs = [_about_text(sampler)]
            items.append({"id": key, "conversations": _turns(pairs, with_image=False)})
            counts["text only"] += 1
        else:
            scene = sampler.any()
            length = rng.choices(list(TURNS), list(TURNS.values()))[0]
            forms = rng.sample(list(INSTRUCTION_FORMS), length)
            pairs = [INSTRUCTION_FORMS[form](scene, sampler) for form in forms]
            items.append({"id": key, "image": f"images/{key}.jpg", "conversations": _turns(pairs, with_image=True)})
            scenes.append(scene)
            for form in forms:
                counts[form] += 1
        counts["turns"] += len(pairs)
    (folder / "images").mkdir()
    pictures = encoded_images(scenes, config.image_size_px, streams.pixels(config.seed, "instructions"))
    for item, picture in zip((item for item in items if "image" in item), pictures, strict=True):
        (folder / str(item["image"])).write_bytes(picture)
    (folder / "llava_instruct.json").write_text(json.dumps(items, indent=1))
    return counts | {"conversations": len(items), "images": len(scenes)}
