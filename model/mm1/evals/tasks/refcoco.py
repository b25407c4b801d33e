"""RefCOCO, RefCOCO+ and RefCOCOg: the box of the object that an expression refers to; accuracy at an overlap of 0.5.

Formats, all with ``bbox`` as left, top, width and height in pixels:

- COCO's, as MDETR distributes the sets and Ferret evaluates them: ``finetune_<name>_<split>.json`` with ``images`` of
  ``file_name``, ``width``, ``height`` and the expression as ``caption``, and ``annotations`` of ``image_id`` and ``bbox``.
- a list of rows, ``<name>_<split>.json`` or ``.jsonl``: an image (``image`` or ``file_name``), an ``expression``,
  ``sentence`` or ``caption`` (or a list of them: ``expressions``, ``sentences``), ``bbox``, and ``width`` and ``height`` if
  they are known.

The images are those of COCO's train2014. Boxes of answers and demonstrations are in this project's form (`mm1.coordinates`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mm1.coordinates import box_of_pixels
from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item
from mm1.evals.metrics import per_item
from mm1.evals.metrics.boxes import accuracy_at, box_iou
from mm1.evals.tasks.base import Reader, Task
from mm1.evals.tasks.grounding import BOX_TOKENS

Row = Mapping[str, Any]
IMAGE_FIELDS = ("file_name", "image", "img_path")
TEXT_FIELDS = ("expression", "sentence", "caption", "expressions", "sentences")
SPLITS = ("testA", "testB", "val", "train")


def reader(name: str) -> Reader:
    """Return the reader of a set of files."""

    def read(files: Files, split: str) -> list[Item]:
        path = files.find(f"finetune_{name}_{split}.json", f"{name}_{split}.json", f"{name}_{split}.jsonl")
        if path.suffix == ".jsonl":
            rows: Iterator[DataRow] = files.rows(path)
        elif "annotations" in files.keys(path):
            return list(_coco_items(files, path))
        else:
            rows = files.entries(path)
        items = files.each(path, ((number, (number, row)) for number, row in rows), partial(_row_items, files))
        return [item for some in items for item in some]

    return read


def _coco_items(files: Files, path: Path) -> Iterator[Item]:
    """Read the items of a file in COCO's format, whose images are listed once per expression."""
    boxes: dict[str, Any] = {}
    for image_id, box in files.each(path, files.entries(path, "annotations"), lambda row: (str(row["image_id"]), row["bbox"])):
        boxes.setdefault(image_id, box)

    def make(image: Row) -> Item:
        image_id = str(image["id"])
        if image_id not in boxes:
            raise ValueError(f"no annotation of the image {image_id}")
        return _item(files, image_id, image, str(image["caption"]), boxes[image_id])

    return files.each(path, files.entries(path, "images"), make)


def _row_items(files: Files, numbered: tuple[object, Row]) -> list[Item]:
    number, row = numbered
    field = next((name for name in TEXT_FIELDS if row.get(name)), None)
    if field is None:
        raise ValueError(f"expected one of the fields {', '.join(TEXT_FIELDS)}")
    texts = row[field] if isinstance(row[field], list) else [row[field]]
    expressions = [str(text["raw"] if isinstance(text, Mapping) else text) for text in texts]
    return [_item(files, f"{number}/{k}", row, text, row["bbox"]) for k, text in enumerate(expressions)]


def _item(files: Files, item_id: str, image: Row, expression: str, bbox: Any) -> Item:
    field = next((name for name in IMAGE_FIELDS if image.get(name)), None)
    if field is None:
        raise ValueError(f"expected one of the fields {', '.join(IMAGE_FIELDS)}")
    path = files.image(Path(str(image[field])).name)
    width, height = (image["width"], image["height"]) if "width" in image and "height" in image else _size(path)
    box = str(box_of_pixels([float(value) for value in bbox], float(width), float(height)))
    return Item(id=item_id, images=(path,), question=expression, answer=box, references=(box,))


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def ask(item: Item) -> str:
    """Return the question: where the object is."""
    return f"Where is {item.question}? Give its box as four numbers from 0 to 999: left, top, right, bottom."


refcoco = Task(
    name="refcoco",
    summary="give the box of the object that an expression refers to",
    files=("finetune_refcoco_<split>.json (MDETR) or refcoco_<split>.json, .jsonl", "train2014/ (COCO images)"),
    form="question",
    read=reader("refcoco"),
    splits=SPLITS,
    same_type=False,
    ask=ask,
    metrics={"accuracy_iou50": per_item(accuracy_at(0.5)), "mean_iou": per_item(box_iou)},
    max_new_tokens=BOX_TOKENS,
    control_shots=(0,),
)

refcocoplus = replace(
    refcoco,
    name="refcocoplus",
    summary="give the box of an object, from an expression without words of position",
    files=("finetune_refcoco+_<split>.json (MDETR) or refcoco+_<split>.json, .jsonl", "train2014/ (COCO images)"),
    read=reader("refcoco+"),
)

refcocog = replace(
    refcoco,
    name="refcocog",
    summary="give the box of an object, from a longer expression",
    files=("finetune_refcocog_<split>.json (MDETR) or refcocog_<split>.json, .jsonl", "train2014/ (COCO images)"),
    read=reader("refcocog"),
    splits=("test", "val", "train"),
)
