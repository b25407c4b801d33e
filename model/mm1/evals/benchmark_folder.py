"""A folder of benchmark files, and which tasks it has.

    <benchmarks>/<task>/...              official files of a benchmark, under the names and in the folders of its download
    <benchmarks>/<split>/<name>...       a split in the layout of this project: VQAv2 and COCO-caption files, text, images/

Torch-free.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from mm1.errors import ConfigurationError
from mm1.evals.files import Files
from mm1.evals.listing import Listing


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
        self._listings: dict[Path, Listing] = {}

    @property
    def has_split(self) -> bool:
        """Whether the split exists."""
        return (self.root / self.split).is_dir()

    @property
    def folder(self) -> Path:
        """Folder of the split.

        Raises:
            ConfigurationError: the split does not exist.
        """
        self.check_split()
        return self.root / self.split

    def check_split(self) -> None:
        """Check that the split exists.

        Raises:
            ConfigurationError: it does not; the message names those that do.
        """
        if not self.has_split:
            known = sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
            raise ConfigurationError(
                f"benchmarks {self.root} have no split {self.split!r}; known: {', '.join(known) or 'none'}"
            )

    def of_split(self, task: str) -> Files:
        """Return the files of a task in this project's layout."""
        return self._open(self.folder, task)

    def of_benchmark(self, task: str, folder: str = "") -> Files:
        """Return the official files of a benchmark: the subfolder of its name in any case, or the whole folder without one.

        Args:
            task: name of the task.
            folder: name of the subfolder, if it is not the task's name.
        """
        named = self._subfolder(folder or task)
        return self._open(named or self.root, task, self._list(self.root) if named else None)

    def has(self, task: str, folder: str = "") -> bool:
        """Whether there is a subfolder of a benchmark."""
        return self._subfolder(folder or task) is not None

    def _subfolder(self, name: str) -> Path | None:
        if not self.root.is_dir():
            raise ConfigurationError(f"benchmarks: no folder {self.root}")
        spellings = [path for path in sorted(self.root.iterdir()) if path.name.lower() == name.lower() and path.is_dir()]
        return next((path for path in spellings if path.name == name), spellings[0] if spellings else None)

    def _open(self, folder: Path, task: str, shared: Listing | None = None) -> Files:
        if (folder, task) not in self._files:
            self._files[folder, task] = Files(folder, task, self._list(folder), shared)
        return self._files[folder, task]

    def _list(self, folder: Path) -> Listing:
        return self._listings.setdefault(folder, Listing(folder))

    @property
    def used(self) -> set[Path]:
        """Annotation files read so far."""
        return {path for files in self._files.values() for path in files.used}

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks of the split in this project's layout."""
        names = {path.name.removesuffix("_questions.json") for path in self.folder.glob("*_questions.json")}
        parts = {f"{name}_{part}.json" for name in names for part in ("questions", "annotations")}
        files = [path for path in self.folder.glob("*.json") if path.name not in parts and _has_captions(path)]
        names |= {path.stem for path in (*files, *self.folder.glob("*.jsonl"))}
        return tuple(sorted(name for name in names if not name.endswith("_demo")))


_CAPTION_KEYS = re.compile(rb'"(captions?|caption_str|sentences|file_name)"\s*:')


def _has_captions(path: Path) -> bool:
    """Whether a JSON file looks like captions, or images to caption, from its beginning and end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        text = file.read(65_536)
        file.seek(max(file.tell(), size - 65_536))
        return bool(_CAPTION_KEYS.search(text + file.read()))


def has_captions(path: Path) -> bool:
    """Whether the first line of a JSONL file is an image with a caption."""
    with path.open("rb") as file:
        return bool(re.search(rb'"captions?"\s*:', file.readline(1 << 20)))
