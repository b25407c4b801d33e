"""Questions with coordinates: the part ``grounding`` (conversations), and the questions of the benchmark tasks.

Boxes are those of the pixels, after the jitter of the renderer, so they are known only when an image has been rendered.
:mod:`mm1.coordinates` defines their form in text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from mm1.coordinates import Box
from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.llava import about_image, write_chats
from mm1.world.render import encoded_with_boxes
from mm1.world.scene import Object, Scene, SceneSampler, Split, held_out_pairs

Pairs = tuple[str, str]


def referring_phrase(scene: Scene, thing: Object, rng: Random) -> str:
    """Describe an object such that no other object of the scene fits: by colour or size and shape, or by its shape."""
    size, colour, shape = language.words_of(thing)
    return rng.choice((f"{colour} {shape}", f"{size} {shape}", shape))


def box_question(scene: Scene, boxes: list[Box], index: int, rng: Random) -> Pairs:
    """Ask for the box of an object."""
    return f"where is the {referring_phrase(scene, scene.objects[index], rng)} ? give its box .", str(boxes[index])


def point_question(scene: Scene, boxes: list[Box], index: int, rng: Random) -> Pairs:
    """Ask for a point on an object; the answer is the centre of its box."""
    return f"where is the {referring_phrase(scene, scene.objects[index], rng)} ? give a point .", str(boxes[index].centre)


def box_to_point_at(scene: Scene, boxes: list[Box], index: int, rng: Random) -> Pairs:
    """Ask for a point on an object, with the box that the point must be in."""
    return point_question(scene, boxes, index, rng)[0], str(boxes[index])


def content_question(scene: Scene, boxes: list[Box], index: int, rng: Random) -> Pairs:
    """Ask what is in the box of an object."""
    return f"what is at {boxes[index]} ?", f"a {language.phrase(scene.objects[index])}"


def list_question(scene: Scene, boxes: list[Box], index: int, rng: Random) -> Pairs:
    """Ask for all shapes with their boxes."""
    shapes = [language.SHAPES[thing.shape] for thing in scene.objects]
    return "list the shapes with boxes .", " , ".join(f"{shape} {box}" for shape, box in zip(shapes, boxes, strict=True))


FORMS: dict[str, tuple[float, Callable[[Scene, list[Box], int, Random], Pairs]]] = {
    "box": (0.5, box_question),
    "point": (0.2, point_question),
    "content": (0.2, content_question),
    "list": (0.1, list_question),
}
"""Forms of questions -> their share, and how they are made of a scene, its boxes and the index of an object."""


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the part ``grounding`` into an existing folder: one or two questions about each image.

    Returns:
        Number of conversations, and of questions of each form.
    """
    rng = streams.choices(config.seed, "grounding")
    sampler = SceneSampler(rng, Split.TRAIN, held_out_pairs(config))
    scenes = [sampler.any() for _ in range(config.num_grounding)]
    rendered = list(encoded_with_boxes(scenes, config.image_size_px, streams.pixels(config.seed, "grounding")))
    counts = dict.fromkeys(FORMS, 0)
    chats = []
    for scene, (_, boxes) in zip(scenes, rendered, strict=True):
        forms = rng.choices(list(FORMS), [share for share, _ in FORMS.values()], k=rng.choice((1, 2)))
        for form in dict.fromkeys(forms):
            counts[form] += 1
        pairs = [FORMS[form][1](scene, boxes, rng.randrange(len(boxes)), rng) for form in dict.fromkeys(forms)]
        chats.append(about_image(pairs))
    write_chats(folder, chats, (image for image, _ in rendered))
    return counts | {"conversations": len(chats)}
