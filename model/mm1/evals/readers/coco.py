"""COCO's caption format: ``images`` with ``id`` and ``file_name``, ``annotations`` with ``image_id`` and ``caption``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item


def read_captions(files: Files, name: str) -> list[Item]:
    """Read one item per image of ``<name>.json``, with all its captions as references.

    Raises:
        ConfigurationError: the file is missing.
        DataError: the file is damaged.
    """
    return read_caption_file(files, Path(f"{name}.json"))


def read_caption_file(files: Files, file: Path) -> list[Item]:
    """Read one item per image of a caption file; without captions, its images are a test set."""
    content = files.json(file)
    captions: dict[Any, list[str]] = defaultdict(list)
    with files.damaged(file):
        annotations, images = list(content.get("annotations", ())), list(content["images"])
    for number, row in enumerate(annotations, 1):
        with files.damaged(file, f"{number} of annotations"):
            captions[row["image_id"]].append(str(row["caption"]))
    items = []
    for number, row in enumerate(images, 1):
        with files.damaged(file, f"{number} of images"):
            references = tuple(captions[row["id"]])
            if references or not annotations:
                answer = references[0] if references else ""
                items.append(
                    Item(id=str(row["id"]), images=(files.image(row["file_name"]),), answer=answer, references=references)
                )
    return items
