"""The files of a task in a benchmark folder.

    <benchmarks>/<task>/...              official files of a benchmark, under the names and in the folders of its download
    <benchmarks>/<split>/<name>...       a split in the layout of this project: VQAv2 and COCO-caption files, text, images/

This module does not depend on where the files come from. Torch-free.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mm1.errors import ConfigurationError, DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


class Files:
    """The files of one task.

    Args:
        folder: the folder that has them.
        task: name of the task, for messages.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        self.task = task
        self.used: set[Path] = set()
        """Annotation files read so far."""

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.folder / name).is_file()

    def find(self, *patterns: str) -> Path:
        """Find a file at any depth; the first pattern with a file counts.

        Raises:
            ConfigurationError: no file matches, or several match one pattern.
        """
        for pattern in patterns:
            matches = sorted(path for path in self.folder.rglob(pattern) if path.is_file())
            if len(matches) > 1:
                names = ", ".join(str(path.relative_to(self.folder)) for path in matches[:3])
                raise ConfigurationError(f"task {self.task}: {self.folder} has several files {pattern}: {names}; keep one")
            if matches:
                return matches[0]
        raise MissingFile(f"task {self.task}: no file {' or '.join(patterns)} in {self.folder}")

    def text(self, name: str | Path) -> str:
        """Read a UTF-8 file.

        Raises:
            ConfigurationError: it is missing.
        """
        path = self.folder / name
        if not path.is_file():
            raise MissingFile(f"task {self.task}: no file {path}")
        self.used.add(path)
        with self.damaged(name):
            return path.read_text(encoding="utf-8-sig")

    def json(self, name: str | Path) -> Any:
        """Read a JSON file."""
        with self.damaged(name):
            return json.loads(self.text(name))

    def rows(self, name: str | Path) -> Iterator[tuple[int, Any]]:
        """Read the rows of a JSONL file with their numbers, for `damaged`."""
        for number, line in enumerate(self.text(name).splitlines(), 1):
            if line.strip():
                with self.damaged(name, number):
                    row = json.loads(line)
                yield number, row

    @contextmanager
    def damaged(self, name: str | Path, row: object = None) -> Iterator[None]:
        """Convert errors of damaged content to one that names the file, and the row if it is known.

        Raises:
            DataError: in place of the error of the body.
        """
        where = f"{self.folder / name}" + ("" if row is None else f", row {row}")
        try:
            yield
        except KeyError as error:
            raise DataError(f"{where}: an entry lacks {error}") from None
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{where} is not in the format that its name implies: {error}") from None

    # -- images -----------------------------------------------------------------------------------------------------

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        """Image files by name, by stem and, if the stem ends in digits, by their number."""
        folder = self.folder / "images" if (self.folder / "images").is_dir() else self.folder
        images: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
            digits = re.search(r"\d+$", path.stem)
            for key in {path.name, path.stem, *([str(int(digits[0]))] if digits else [])}:
                images[key].append(path)
        if not images:
            raise ConfigurationError(f"no images in {folder}: put the images of {self.task} there, named by their image id")
        return dict(images)

    def image(self, image_id: object) -> Path:
        """Find the file of an image by its file name, its stem, or the number at the end of its stem.

        Raises:
            ConfigurationError: there are no images.
            DataError: no file, or several files have this name or number.
        """
        key = str(image_id)
        matches = self._images.get(key) or self._images.get(Path(key).name, [])
        exact = [path for path in matches if key in (path.name, path.stem)] or matches
        if not exact:
            raise DataError(f"task {self.task}: no file for image {key} in {self.folder}")
        if len(exact) > 1:
            names = " and ".join(str(path.relative_to(self.folder)) for path in exact[:2])
            raise DataError(f"task {self.task}: image {key} can be {names} in {self.folder}: rename or remove one")
        return exact[0]


class MissingFile(ConfigurationError):
    """A task's file is not in the benchmark folder."""


class BenchmarkFolder:
    """A folder of benchmark files.

    Args:
        root: the folder.
        split: the subfolder of tasks in this project's layout, for example test.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        self.split = split
        self._files: dict[tuple[Path, str], Files] = {}

    @property
    def folder(self) -> Path:
        """Folder of the split.

        Raises:
            ConfigurationError: the split does not exist.
        """
        folder = self.root / self.split
        if not folder.is_dir():
            known = sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
            raise ConfigurationError(
                f"benchmarks {self.root} have no split {self.split!r}; known: {', '.join(known) or 'none'}"
            )
        return folder

    @property
    def has_split(self) -> bool:
        """Whether there is a folder of the split."""
        return (self.root / self.split).is_dir()

    def of_split(self, task: str) -> Files:
        """Return the files of a task in this project's layout."""
        return self._open(self.folder, task)

    def of_benchmark(self, task: str, folder: str = "") -> Files:
        """Return the official files of a benchmark: those in its subfolder, or in the whole folder if there is none.

        Args:
            task: the task.
            folder: name of the subfolder if it is another than the task's.
        """
        named = self.root / (folder or task)
        return self._open(named if named.is_dir() else self.root, task)

    def _open(self, folder: Path, task: str) -> Files:
        return self._files.setdefault((folder, task), Files(folder, task))

    @property
    def used(self) -> set[Path]:
        """Annotation files read so far."""
        return {path for files in self._files.values() for path in files.used}

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks of the split in this project's layout."""
        names = {path.name.removesuffix("_questions.json") for path in self.folder.glob("*_questions.json")}
        parts = {f"{name}_{part}.json" for name in names for part in ("questions", "annotations")}
        names |= {path.stem for path in self.folder.glob("*.json") if path.name not in parts and _has_captions(path)}
        names |= {path.stem for path in self.folder.glob("*.jsonl")}
        return tuple(sorted(name for name in names if not name.endswith("_demo")))


def _has_captions(path: Path) -> bool:
    """Whether a JSON file looks like COCO captions, from its beginning and end, so that it is not parsed twice."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(65_536)
        file.seek(max(0, size - 65_536))
        text = beginning + file.read()
    return b'"caption"' in text or (b'"annotations"' in text and b'"images"' in text)
