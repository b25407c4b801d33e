"""Benchmark tasks about details and positions: ``ocr``, ``grounding``, ``pointing``, ``referring`` and ``mark``.

Pages of text get images of their own, and demonstrations (``ocr_demo``). The other tasks are for fine-tuned models and have
none; they ask about scenes of other tasks, with the boxes of their pixels. The answers of ``pointing`` are the boxes that a
point must be in. ``mark`` exists if the images show marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from mm1.coordinates import Box
from mm1.world import grounding, streams
from mm1.world.config import WorldConfig
from mm1.world.instruction_forms import mark_question
from mm1.world.marks import shows_marks
from mm1.world.scene import Scene, Split
from mm1.world.text_pages import PAGE_KINDS, TextPage, draw_page, encoded_pages

Row = tuple[int, str, str, str, tuple[str, ...]]
"""Image ID, question, answer, question type, choices (none)."""
Tasks = dict[str, list[Row]]
"""Name of files -> questions."""


def scene_tasks(image_ids: list[int], scenes: list[Scene], boxes: list[list[Box]], config: WorldConfig, name: str) -> Tasks:
    """Ask about the boxes and marks of scenes.

    Args:
        image_ids: image IDs of the questions, from 1.
        scenes: all scenes, in the order of their IDs.
        boxes: boxes of their objects.
        config: seed and image size.
        name: name of the split.
    """
    rng = streams.choices(config.seed, f"grounding {name}")

    def ask(form: Callable[[Scene, list[Box], int, Random], tuple[str, str]]) -> Iterator[Row]:
        for image_id in image_ids:
            scene, own = scenes[image_id - 1], boxes[image_id - 1]
            yield (image_id, *form(scene, own, rng.randrange(len(own)), rng), f"{len(own)} objects", ())

    tasks = {
        "grounding": list(ask(grounding.box_question)),
        "pointing": list(ask(grounding.box_to_point_at)),
        "referring": list(ask(grounding.content_question)),
    }
    if shows_marks(config.image_size_px):
        tasks["mark"] = list(ask(lambda scene, *_: mark_question(scene)))
    return tasks


def write_pages(folder: Path, first_id: int, config: WorldConfig, name: str, splits: tuple[Split, Split]) -> Tasks:
    """Write pages of text to the folder of images, and ask about them, all kinds of pages equally often.

    Args:
        folder: folder of images.
        first_id: image ID of the first page.
        config: seed, sizes and number of items: a half of it for the questions, a quarter for the demonstrations.
        name: name of the split.
        splits: splits of the questions' and of the demonstrations' pages.
    """
    rng, kinds = streams.choices(config.seed, f"ocr {name}"), list(PAGE_KINDS)
    counts = (config.num_eval_items // 2, config.demonstrations("ocr"))
    drawn = [
        [draw_page(rng, split, kinds[number % len(kinds)]) for number in range(count)]
        for split, count in zip(splits, counts, strict=True)
    ]
    pages = [page for some in drawn for page in some]
    noise = streams.pixels(config.seed, f"ocr {name}")
    for image_id, image in enumerate(encoded_pages(pages, config.image_size_px, noise), start=first_id):
        (folder / f"{image_id:012d}.jpg").write_bytes(image)
    questions = _about(drawn[0], first_id, rng)
    return {"ocr": questions, "ocr_demo": _about(drawn[1], first_id + len(questions), rng)}


def _about(pages: list[TextPage], first_id: int, rng: Random) -> list[Row]:
    return [(image_id, *rng.choice(page.questions), page.kind, ()) for image_id, page in enumerate(pages, start=first_id)]
