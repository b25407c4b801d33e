"""The benchmarks part: held-out questions, captions and text items in the formats of VQAv2 and COCO.

Folders ``dev/`` and ``test/``. Each contains, per task of :data:`VQA_TASKS` and :data:`DETAIL_TASKS`,
``<task>_questions.json`` and ``<task>_annotations.json``, and for few-shot prompts ``<task>_demo_questions.json`` and
``<task>_demo_annotations.json`` (like VQAv2's training split); ``captions.json``, ``captions_demo.json`` and the same
for ``captions_heldout`` in COCO's caption format; the Parquet files of :mod:`mm1.world.image_sets`; ``text.jsonl`` with all
kinds of text items, and ``text_<kind>.jsonl`` with one kind; and ``images/``, where image 17 is
``000000000017.jpg`` as in COCO 2017.

The scenes of items and demonstrations come from four disjoint splits, none of which is used by a training part.
Demonstrations for an item must have the same ``question_type``: the vague question and the novel words are meaningless
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from mm1.coordinates import Box
from mm1.world import image_sets, language, streams
from mm1.world.config import EVAL_SPLITS, EXAMPLES_PER_NAME, WorldConfig
from mm1.world.detail_benchmarks import scene_tasks, write_pages
from mm1.world.instruction_forms import INSTRUCTION_FORMS
from mm1.world.pages import CONCEPT_KINDS, concepts
from mm1.world.render import encoded_with_boxes
from mm1.world.scene import NUM_COLOURS, NUM_SHAPES, Object, Pair, Scene, SceneSampler, Split, held_out_pairs
from mm1.world.text_items import ITEM_KINDS, text_items

VQA_TASKS = ("vqa", "vqa_heldout", "vague", "style", "novel", "codes", "instruct")
DETAIL_TASKS = ("ocr", "grounding", "pointing", "referring")
"""Tasks of :mod:`mm1.world.detail_benchmarks` in VQAv2's format, besides ``mark``."""
CAPTION_TASKS = ("captions", "captions_heldout")
SPLITS = dict(zip(EVAL_SPLITS, ((Split.DEV, Split.DEV_DEMO), (Split.TEST, Split.TEST_DEMO)), strict=True))
NUM_ANSWERS = 10
"""Number of answers per question, as in VQAv2; here all are equal."""

QuestionRow = tuple[int, str, str, str, tuple[str, ...]]
"""Image ID, question, answer, question type, choices (empty if the answer is not limited to choices)."""
Forms = Mapping[str, Callable[[Object], str]]
"""Question type -> answer about an object."""
VAGUE: tuple[str, Forms] = (
    language.VAGUE_QUESTION,
    {f"vague {kind}": partial(language.vague_answer, kind) for kind in language.VAGUE_KINDS},
)
STYLE: tuple[str, Forms] = ("", {f"style {name}": form for name, form in language.STYLES.items()})
"""The empty question: a caption follows its image."""


@dataclass
class ImageFolder:
    """The images of one split: scenes by image ID, rendered when the folder is complete."""

    scenes: list[Scene] = field(default_factory=list)

    def add(self, scene: Scene) -> int:
        """Add a scene and return its image ID."""
        self.scenes.append(scene)
        return len(self.scenes)

    def file_name(self, image_id: int) -> str:
        """Return the COCO file name of an image."""
        return f"{image_id:012d}.jpg"

    def write(self, folder: Path, image_size_px: int, noise: np.random.Generator) -> list[list[Box]]:
        """Render all scenes into ``folder``; returns the boxes of their objects."""
        folder.mkdir()
        boxes = []
        for image_id, (picture, own) in enumerate(encoded_with_boxes(self.scenes, image_size_px, noise), start=1):
            (folder / self.file_name(image_id)).write_bytes(picture)
            boxes.append(own)
        return boxes


def _dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))


def _answer_type(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer in language.COUNTS else "other"


def _write_vqa(folder: Path, name: str, rows: list[QuestionRow]) -> None:
    questions, annotations = [], []
    for question_id, (image_id, question, answer, question_type, choices) in enumerate(rows, start=1):
        ids = {"image_id": image_id, "question_id": question_id}
        questions.append({**ids, "question": question})
        answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": k + 1} for k in range(NUM_ANSWERS)]
        annotation: dict[str, object] = {
            **ids,
            "question_type": question_type,
            "answer_type": _answer_type(answer),
            "multiple_choice_answer": answer,
            "answers": answers,
        }
        annotations.append(annotation | ({"choices": list(choices)} if choices else {}))
    info = {"description": f"toy world, {name}"}
    _dump(folder / f"{name}_questions.json", {"info": info, "questions": questions})
    _dump(folder / f"{name}_annotations.json", {"info": info, "annotations": annotations})


def _write_captions(folder: Path, name: str, images: ImageFolder, image_ids: list[int], side: int) -> None:
    listed = [{"id": i, "file_name": images.file_name(i), "width": side, "height": side} for i in image_ids]
    annotations = [
        {"id": number, "image_id": i, "caption": language.caption(images.scenes[i - 1])}
        for number, i in enumerate(image_ids, start=1)
    ]
    info = {"description": f"toy world, {name}"}
    _dump(folder / f"{name}.json", {"info": info, "images": listed, "annotations": annotations})


def _about(images: ImageFolder, image_ids: list[int], sampler: SceneSampler, targets: list[Object | None]) -> list[QuestionRow]:
    """Ask one plain question per image, all kinds equally often; ``targets`` are the objects to ask about, or None for any."""
    rows: list[QuestionRow] = []
    for number, (image_id, target) in enumerate(zip(image_ids, targets, strict=True)):
        scene = images.scenes[image_id - 1]
        # The answer or the question must be about the held-out object, which excludes questions about tag or count.
        kinds = language.QUESTION_KINDS if target is None else ("colour", "shape", "size", "where")
        kind = kinds[number % len(kinds)]
        question, answer = language.question(kind, scene, target or sampler.rng.choice(scene.objects))
        rows.append((image_id, question, answer, kind, ()))
    return rows


def _instructed(images: ImageFolder, image_ids: list[int], sampler: SceneSampler) -> list[QuestionRow]:
    forms = list(INSTRUCTION_FORMS)
    rows: list[QuestionRow] = []
    for number, image_id in enumerate(image_ids):
        form = forms[number % len(forms)]
        question, answer = INSTRUCTION_FORMS[form](images.scenes[image_id - 1], sampler)
        rows.append((image_id, question, answer, form, ()))
    return rows


def _hinted(images: ImageFolder, sampler: SceneSampler, count: int, question: str, forms: Forms) -> list[QuestionRow]:
    """Ask a question whose meaning only the demonstrations of its type show; all meanings equally often."""
    rows: list[QuestionRow] = []
    for form in islice(cycle(forms), count):
        scene = sampler.single()
        rows.append((images.add(scene), question, forms[form](scene.objects[0]), form, ()))
    return rows


def _named(
    images: ImageFolder, items: SceneSampler, demos: SceneSampler, episodes: Sequence[tuple[str, str, int]]
) -> tuple[list[QuestionRow], list[QuestionRow]]:
    """Create episodes of invented names: one question and :data:`EXAMPLES_PER_NAME` demonstrations per name, in mixed order.

    Args:
        images: the folder of the images.
        items: sampler of the questions.
        demos: sampler of the demonstrations.
        episodes: name of an episode, kind of its concepts, and maximum number of names.
    """
    questions: list[QuestionRow] = []
    demonstrations: list[QuestionRow] = []
    rng = items.rng
    for episode, kind, count in episodes:
        meanings = concepts(kind, count, items)
        names = tuple(rng.sample(language.NONCE_WORDS, len(meanings)))
        order = [*range(len(meanings))] * EXAMPLES_PER_NAME
        rng.shuffle(order)
        for rows, sampler, indices in ((questions, items, [*range(len(meanings))]), (demonstrations, demos, order)):
            for index in indices:
                image_id = images.add(sampler.single(**meanings[index]))
                rows.append((image_id, language.NOVEL_QUESTION, names[index], episode, names))
    return questions, demonstrations


def _novel_episodes(count: int) -> list[tuple[str, str, int]]:
    return [(f"novel {number:04d}", CONCEPT_KINDS[number % len(CONCEPT_KINDS)], 2) for number in range(count // 2)]


def _code_episodes(count: int) -> list[tuple[str, str, int]]:
    """Plan episodes with a name for each shape, or for each colour: the more demonstrations, the more names are known."""
    kinds = (("shape", NUM_SHAPES), ("colour", NUM_COLOURS))
    num_episodes = 2 * count // sum(size for _, size in kinds)
    return [(f"codes {number:04d}", *kinds[number % len(kinds)]) for number in range(num_episodes)]


def _target(scene: Scene, pair: Pair) -> Object:
    return next(thing for thing in scene.objects if (thing.shape, thing.colour) == pair)


def _write_texts(folder: Path, sampler: SceneSampler, count: int) -> dict[str, int]:
    files = {"text": text_items(sampler, count)}
    files |= {f"text_{kind}": text_items(sampler, count // 2, (kind,)) for kind in ITEM_KINDS}
    for name, items in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return {name: len(items) for name, items in files.items()}


def _write_split(folder: Path, name: str, config: WorldConfig) -> dict[str, int]:
    rng = streams.choices(config.seed, f"benchmarks {name}")
    items, demos = (SceneSampler(rng, split, held_out_pairs(config)) for split in SPLITS[name])
    images, count, side = ImageFolder(), config.num_eval_items, config.image_size_px
    folder.mkdir()
    demo_ids = [images.add(demos.any()) for _ in range(count)]
    item_ids = [images.add(items.any()) for _ in range(count)]
    nothing: list[Object | None] = [None] * count
    demonstrations = _about(images, demo_ids, demos, nothing)
    tasks = {
        "vqa": (_about(images, item_ids, items, nothing), demonstrations),
        "vague": (_hinted(images, items, count, *VAGUE), _hinted(images, demos, count, *VAGUE)),
        "style": (_hinted(images, items, count, *STYLE), _hinted(images, demos, count, *STYLE)),
        "novel": _named(images, items, demos, _novel_episodes(count)),
        "codes": _named(images, items, demos, _code_episodes(count)),
        "instruct": (_instructed(images, item_ids, items), _instructed(images, demo_ids, demos)),
    }
    captions = {"captions": item_ids}
    # Single objects, so that 8 demonstrations and a caption of three objects fit into the 128 tokens of a page.
    shown_ids = [images.add(demos.single()) for _ in range(count)]
    if config.held_out_pairs:
        drawn = [items.held_out_scene() for _ in range(count)]
        held_out_ids = [images.add(scene) for scene, _ in drawn]
        targets: list[Object | None] = [_target(scene, pair) for scene, pair in drawn]
        tasks["vqa_heldout"] = (_about(images, held_out_ids, items, targets), demonstrations)
        captions["captions_heldout"] = held_out_ids
    for task, (questions, examples) in tasks.items():
        _write_vqa(folder, task, questions)
        _write_vqa(folder, f"{task}_demo", examples)
    for task, image_ids in captions.items():
        _write_captions(folder, task, images, image_ids, side)
        _write_captions(folder, f"{task}_demo", images, shown_ids, side)
    counts = {task: len(rows) for task, (rows, _) in tasks.items()} | _write_texts(folder, items, count)
    noise = streams.pixels(config.seed, f"benchmarks {name}")
    boxes = images.write(folder / "images", side, noise)
    counts |= image_sets.write(folder, items, demos, count, side, noise)
    details = scene_tasks(item_ids, images.scenes, boxes, config, name)
    details |= write_pages(folder / "images", len(images.scenes) + 1, config, name, SPLITS[name])
    for task, rows in details.items():
        _write_vqa(folder, task, rows)
    return counts | {task: len(rows) for task, rows in details.items()} | {"images": len(images.scenes)}


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the benchmarks part into an existing folder.

    Returns:
        Number of items per task and number of images, for each split.
    """
    counts = {split: _write_split(folder / split, split, config) for split in SPLITS}
    return {f"{split} {task}": count for split, tasks in counts.items() for task, count in tasks.items()}
