"""The files of a task: found by name, read row by row with errors that name file and row, images by name or number.

This module does not depend on where the files come from. Torch-free.
"""

from __future__ import annotations

import csv
import filecmp
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mm1.errors import ConfigurationError, DataError
from mm1.evals.items import Item
from mm1.evals.json_stream import entries, keys
from mm1.evals.listing import Listing

T = TypeVar("T")
PACKED = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""Suffixes of archives and compressed files, which are not read."""
DataRow = tuple[object, Any]
"""Number or name of an entry of a file, and the entry."""


class Files:
    """The files of one task.

    Args:
        folder: the folder that has them.
        task: name of the task, for messages.
        listing: the files of the folder; default: list them.
        shared: images of other tasks, which the task may also use, such as COCO's.
    """

    def __init__(self, folder: Path, task: str, listing: Listing | None = None, shared: Listing | None = None) -> None:
        self.folder = folder
        self.task = task
        self.used: set[Path] = set()
        """Annotation files read so far."""
        self._listing = listing or Listing(folder)
        self._shared = shared
        self._images: dict[str, Path] = {}

    def has(self, name: str) -> bool:
        """Whether the folder has a file of this name."""
        return (self.folder / name).is_file()

    def matches(self, *patterns: str) -> bool:
        """Whether the folder has a file that matches one of the patterns, at any depth."""
        return any(self._listing.match(pattern) for pattern in patterns)

    def has_own(self, pattern: str) -> bool:
        """Whether the folder is the benchmark's own and has a file that matches: others may have files of the same name."""
        return self._shared is not None and self.matches(pattern)

    def find(self, *patterns: str) -> Path:
        """Find a file at any depth; the first pattern with a file counts.

        Raises:
            ConfigurationError: no file matches, or several match one pattern.
        """
        matches = self.find_all(*patterns)
        if len(matches) > 1:
            names = ", ".join(str(path.relative_to(self.folder)) for path in matches[:3])
            raise ConfigurationError(f"task {self.task}: {self.folder} has several files {patterns[0]}: {names}; keep one")
        return matches[0]

    def find_all(self, *patterns: str) -> list[Path]:
        """Find files at any depth, sorted: all that match the first pattern with any.

        Raises:
            MissingFile: no file matches.
        """
        for pattern in patterns:
            if matches := self._listing.match(pattern):
                return matches
        raise MissingFile(f"task {self.task}: no file {' or '.join(patterns)} in {self.folder}{self.packed(*patterns)}")

    def text(self, name: str | Path) -> str:
        """Read a UTF-8 file.

        Raises:
            ConfigurationError: it is missing.
        """
        with self.damaged(name):
            return self.path(name).read_text(encoding="utf-8-sig")

    def locate(self, name: str | Path) -> Path:
        """Return the path of a name in the folder, or of a path that `find` returned."""
        return Path(name) if Path(name).is_relative_to(self.folder) else self.folder / name

    def path(self, name: str | Path) -> Path:
        """Return the path of a file that is read.

        Raises:
            MissingFile: it is missing.
        """
        path = self.locate(name)
        if not path.is_file():
            raise MissingFile(f"task {self.task}: no file {path}{self.packed(path.name)}")
        self.used.add(path)
        return path

    def packed(self, *patterns: str) -> str:
        """Return the advice to unpack archives in the folder, first those of a missing file; empty if there are none."""
        own = [f"{pattern}{suffix}" for pattern in patterns for suffix in PACKED]
        names = [path.name for pattern in (*own, *(f"*{suffix}" for suffix in PACKED)) for path in self._listing.match(pattern)]
        return f"; unpack {', '.join(list(dict.fromkeys(names))[:3])} there first" if names else ""

    def json(self, name: str | Path) -> Any:
        """Read a JSON file."""
        with self.damaged(name):
            return json.loads(self.text(name))

    def rows(self, name: str | Path) -> Iterator[tuple[int, Any]]:
        """Read the rows of a JSONL file with their numbers, for `damaged`."""
        for number, line in enumerate(self.text(name).split("\n"), 1):  # splitlines would divide texts at U+2028, too
            if line.strip():
                with self.damaged(name, number):
                    row = json.loads(line)
                yield number, row

    def keys(self, name: str | Path) -> list[str]:
        """Return the keys of a JSON file's outermost object; empty if it is a list."""
        with self.damaged(name):
            return keys(self.path(name))

    def entries(self, name: str | Path, key: str | None = None) -> Iterator[tuple[str | int, Any]]:
        """Read the entries of a list or object in a JSON file one by one, so that a large file fits into memory.

        Args:
            name: the file.
            key: name of the list or object within the outermost object; None: the outermost one itself.

        Returns:
            Entries with their numbers from 1, or with their keys.
        """
        rows = entries(self.path(name), key)
        while True:
            with self.damaged(name):
                row = next(rows, None)
            if row is None:
                return
            yield row

    def items(self, name: str | Path, rows: Iterable[DataRow], make: Callable[[Any], Item | None]) -> list[Item]:
        """Make an item of each row; a row of which None is made is left out, and the same item twice is one.

        Raises:
            DataError: a row is damaged, or two different items have one id.
        """
        items: dict[str, Item] = {}

        def add(row: Any) -> None:
            item = make(row)
            if item is not None and items.setdefault(item.id, item) != item:
                raise ValueError(f"a second entry with the id {item.id}")

        for _ in self.each(name, rows, add):
            pass
        return list(items.values())

    def each(self, name: str | Path, rows: Iterable[DataRow], read: Callable[[Any], T]) -> Iterator[T]:
        """Apply a function to each row.

        Raises:
            DataError: a row is damaged.
        """
        for number, row in rows:
            try:
                value = read(row)
            except _DAMAGED as error:
                raise self._error(name, number, error) from None
            yield value

    @contextmanager
    def damaged(self, name: str | Path, row: object = None) -> Iterator[None]:
        """Convert errors of damaged content to one that names the file, and the row if it is known.

        Raises:
            DataError: in place of the error of the body.
        """
        try:
            yield
        except _DAMAGED as error:
            raise self._error(name, row, error) from None

    def _error(self, name: str | Path, row: object, error: Exception) -> DataError:
        where = f"{self.locate(name)}" + ("" if row is None else f", row {row}")
        if isinstance(error, KeyError):
            return DataError(f"{where}: an entry lacks {error}")
        return DataError(f"{where} is not in the format that its name implies: {error}")

    # -- images -----------------------------------------------------------------------------------------------------

    def image(self, *keys: object) -> Path:
        """Find the file of an image by its file name, its stem, or the number at the end of its stem.

        The task's folder counts before the other folders of the benchmarks.

        Args:
            keys: names of the image; the first one with a file counts.

        Raises:
            ConfigurationError: there are no images.
            DataError: no file, or several files have this name or number.
        """
        key = str(keys[0])
        if key not in self._images:
            self._images[key] = self._find_image([str(key) for key in keys])
        return self._images[key]

    def _find_image(self, keys: Sequence[str]) -> Path:
        listings = [self._image_listing, *([self._shared] if self._shared else [])]
        for listing in listings:
            for key in keys:
                paths = listing.image(key)
                if len(paths) > 1 and not _is_one_image(paths):
                    names = " and ".join(str(path.relative_to(listing.root)) for path in paths[:2])
                    raise DataError(f"task {self.task}: image {key} can be {names} in {listing.root}: rename or remove one")
                if paths:
                    return paths[0]
        folder = self._image_listing.root
        if not any(listing.has_images for listing in listings):
            raise ConfigurationError(
                f"no images in {folder}: put the images of {self.task} there, named by their image id{self.packed()}"
            )
        raise DataError(f"task {self.task}: no file for image {keys[0]} in {folder}{self.packed()}")

    @cached_property
    def _image_listing(self) -> Listing:
        images = self.folder / "images"
        return Listing(images) if images.is_dir() and not self._shared else self._listing


def _is_one_image(paths: Sequence[Path]) -> bool:
    """Whether files have the same name and content, such as COCO's images in the folders of several benchmarks."""
    return all(path.name == paths[0].name and filecmp.cmp(paths[0], path, shallow=False) for path in paths[1:])


_DAMAGED = (KeyError, ValueError, TypeError, AttributeError, IndexError, SyntaxError, RecursionError, csv.Error)
"""Errors of a reader that damaged content causes."""


class MissingFile(ConfigurationError):
    """A task's file is not in the benchmark folder."""
