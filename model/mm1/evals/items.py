"""Items of a benchmark, read from its files.

    <name>_questions.json + <name>_annotations.json   VQAv2 (with optional `choices` in an annotation)
    <name>.json                                       COCO captions
    <name>.jsonl                                      text: rows of id, kind, prompt, answer, optional choices
    images/                                           files named by image id: 17.jpg, COCO_val2014_000000000017.jpg

This module does not depend on where the files come from.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mm1.errors import ConfigurationError, DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item to evaluate, or to use as a demonstration."""

    id: str
    image: Path | None = None
    question: str = ""
    """Question, or the prompt of a text item; empty for captions."""
    question_type: str = ""
    """Demonstrations are sampled from items of the same type."""
    answer: str
    """The answer in a demonstration."""
    references: tuple[str, ...]
    """All correct answers; in VQAv2 one per annotator."""
    choices: tuple[str, ...] = ()
    """The possible answers, if the item has choices."""


class BenchmarkFolder:
    """The files of one split of a benchmark folder.

    Args:
        root: the benchmark folder.
        split: its subfolder, for example test.

    Raises:
        ConfigurationError: the split does not exist.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.folder = root / split
        self.used: set[Path] = set()
        """Annotation files read so far."""
        if not self.folder.is_dir():
            known = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
            raise ConfigurationError(f"benchmarks {root} have no split {split!r}; known: {', '.join(known) or 'none'}")

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.folder / name).is_file()

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks with files in this folder."""
        names = {path.name.removesuffix("_questions.json") for path in self.folder.glob("*_questions.json")}
        names |= {path.stem for path in self.folder.glob("captions*.json")} | {
            path.stem for path in self.folder.glob("*.jsonl")
        }
        return tuple(sorted(name for name in names if not name.endswith("_demo")))

    def read_vqa(self, task: str, name: str) -> list[Item]:
        """Read the items of a VQAv2 pair of files.

        Raises:
            ConfigurationError: a file is missing.
            DataError: a file is damaged.
        """
        questions_file, annotations_file = f"{name}_questions.json", f"{name}_annotations.json"
        questions, annotations = self._json(task, questions_file), self._json(task, annotations_file)
        with self._damage(annotations_file):
            by_id = {row["question_id"]: row for row in annotations["annotations"]}
        items = []
        with self._damage(questions_file):
            for row in questions["questions"]:
                annotation = by_id[row["question_id"]]
                references = tuple(str(entry["answer"]) for entry in annotation["answers"])
                items.append(
                    Item(
                        id=str(row["question_id"]),
                        image=self._image(row["image_id"]),
                        question=str(row["question"]),
                        question_type=str(annotation.get("question_type", "")),
                        answer=str(annotation.get("multiple_choice_answer", references[0])),
                        references=references,
                        choices=tuple(map(str, annotation.get("choices", ()))),
                    )
                )
        return items

    def read_captions(self, task: str, name: str) -> list[Item]:
        """Read one item per image of a COCO caption file, with all its captions as references."""
        file = f"{name}.json"
        content = self._json(task, file)
        captions: dict[Any, list[str]] = defaultdict(list)
        items = []
        with self._damage(file):
            for row in content["annotations"]:
                captions[row["image_id"]].append(str(row["caption"]))
            for row in content["images"]:
                references = tuple(captions[row["id"]])
                if references:
                    image = self._image(Path(row["file_name"]).stem)
                    items.append(Item(id=str(row["id"]), image=image, answer=references[0], references=references))
        return items

    def read_text(self, task: str, name: str) -> list[Item]:
        """Read the items of a JSONL file of prompts and answers."""
        file = f"{name}.jsonl"
        items = []
        with self._damage(file):
            for line in self._text(task, file).splitlines():
                row = json.loads(line)
                items.append(
                    Item(
                        id=str(row["id"]),
                        question=str(row["prompt"]),
                        question_type=str(row.get("kind", "")),
                        answer=str(row["answer"]),
                        references=(str(row["answer"]),),
                        choices=tuple(map(str, row.get("choices", ()))),
                    )
                )
        return items

    # -- files ------------------------------------------------------------------------------------------------------

    def _text(self, task: str, file: str) -> str:
        path = self.folder / file
        if not path.is_file():
            raise ConfigurationError(f"task {task}: no file {path}; tasks in this folder: {', '.join(self.tasks) or 'none'}")
        self.used.add(path)
        return path.read_text(encoding="utf-8")

    def _json(self, task: str, file: str) -> Any:
        with self._damage(file):
            return json.loads(self._text(task, file))

    @contextmanager
    def _damage(self, file: str) -> Iterator[None]:
        """Convert errors of a damaged file to one that names the file."""
        try:
            yield
        except KeyError as error:
            raise DataError(f"{self.folder / file}: an entry lacks {error}") from None
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{self.folder / file} is not in the format that its name implies: {error}") from None

    @cached_property
    def _images(self) -> dict[str, Path]:
        """Image files by stem and, if the stem ends in digits, by their number."""
        folder = self.folder / "images"
        if not folder.is_dir():
            raise ConfigurationError(f"no folder {folder}: put the images of the questions there, named by their image id")
        images: dict[str, Path] = {}
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
            images[path.stem] = path
            if digits := re.search(r"\d+$", path.stem):
                images.setdefault(str(int(digits[0])), path)
        return images

    def _image(self, image_id: object) -> Path:
        key = str(image_id)
        if key not in self._images:
            raise DataError(f"{self.folder / 'images'} has no file for image {key}")
        return self._images[key]


Reader = Callable[[BenchmarkFolder, str, str], list[Item]]
"""Folder, task, file name without extension -> items."""
