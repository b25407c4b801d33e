r"""The instruction part: conversations in LLaVA's format, with their images in a folder.

``llava_instruct.json`` is a list of ``{"id", "image": "images/<id>.jpg", "conversations": [{"from": "human", "value":
"<image>\\n…"}, {"from": "gpt", "value": "…"}, …]}``; conversations without an image lack the field. Each form of
instruction has exactly one correct answer, so an evaluation can use exact match. None is phrased like the pre-training
texts, so a base model must be tuned to answer it.
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
"""Number of questions about an image -> probability."""

IMAGE_TOKEN = "<image>"
"""LLaVA's image placeholder in conversations."""


def _describe(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    descriptions = [f"a {language.phrase(thing)} at the {PLACES[thing.place]}" for thing in scene.objects]
    return "describe the image in detail .", f"the image shows {language.join(descriptions)} ."


def _one_word(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    question, answer = language.question(rng.choice(("colour", "size", "where", "count")), scene, rng.choice(scene.objects))
    return f"{question} answer with one word .", answer


def _sentence(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    thing = rng.choice(scene.objects)
    kind = rng.choice(("colour", "size", "where"))
    question, answer = language.question(kind, scene, thing)
    joint = "is at the" if kind == "where" else "is"
    return f"{question} answer in a full sentence .", f"the {SHAPES[thing.shape]} {joint} {answer} ."


def _list(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    kind = sampler.rng.choice(("shapes", "colours"))
    column = 2 if kind == "shapes" else 1
    # Objects in the order of their places; a colour shared by two objects is repeated.
    return f"list the {kind} .", " , ".join(language.words_of(thing)[column] for thing in scene.objects)


def _yes_no(scene: Scene, sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    column, vocabulary = rng.choice(((1, COLOURS), (2, SHAPES)))
    present = {language.words_of(thing)[column] for thing in scene.objects}
    is_present = rng.random() < 0.5
    word = rng.choice([word for word in vocabulary if (word in present) == is_present])
    name = f"{word} object" if column == 1 else word
    return f"is there a {name} ? answer yes or no .", "yes" if is_present else "no"


INSTRUCTION_FORMS: dict[str, Callable[[Scene, SceneSampler], tuple[str, str]]] = {
    "describe": _describe,
    "one word": _one_word,
    "sentence": _sentence,
    "list": _list,
    "yes or no": _yes_no,
}
"""The forms by name: each converts a scene to an instruction and its only correct answer."""


def _about_text(sampler: SceneSampler) -> tuple[str, str]:
    rng = sampler.rng
    if rng.random() < 0.5:
        home, food, where, what = facts_about(rng.choice(ANIMALS))
        (question, _), (start, answer) = rng.choice(((where, home), (what, food)))
        return f"{question} answer in a full sentence .", f"{start} {answer} ."
    left, right = rng.randrange(10), rng.randrange(10)
    return f"what is {left} plus {right} ? answer with one word .", str(left + right)


def _turns(pairs: list[tuple[str, str]], with_image: bool) -> list[dict[str, str]]:
    turns = []
    for number, (question, answer) in enumerate(pairs):
        value = f"{IMAGE_TOKEN}\n{question}" if with_image and number == 0 else question
        turns += [{"from": "human", "value": value}, {"from": "gpt", "value": answer}]
    return turns


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the instruction part into an existing folder.

    Returns:
        Number of conversations, images and turns, and number of turns of each form.
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
