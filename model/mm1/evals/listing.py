"""Names of the files below a folder, read once: a benchmark has up to 300,000 images. Torch-free."""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_NUMBERED = re.compile(r"([0-9]+)\.[^.]+$")


class Listing:
    """The files below a folder; hidden ones are left out, links are followed.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def match(self, pattern: str) -> list[Path]:
        """Return the files whose path ends with a pattern, such as ``*.parquet`` or ``annotations/val.json``, sorted."""
        name = PurePosixPath(pattern).name
        names = [name] if not set(name) & set("*?[") else self._matching_names(name)
        paths = [path for name in names for path in self._paths(name)]
        return sorted(path for path in paths if "/" not in pattern or path.match(pattern))

    def image(self, key: str) -> list[Path]:
        """Return the image files of a name, of a stem, or of a number at the end of their stems; the first with a match counts.

        If none matches, case and the form of accents do not count: archives are packed on systems where they do not.

        Args:
            key: file name, stem or number; with folders in front, files in these folders are preferred.
        """
        name = PurePosixPath(key).name
        paths = self._images(name) or [path for suffix in self._image_suffixes for path in self._paths(name + suffix)]
        if not paths and re.fullmatch("[0-9]+", name):
            paths = [path for numbered in self._by_number.get(name.lstrip("0"), ()) for path in self._paths(numbered)]
        paths = paths or [path for other in self._by_folded_name.get(_folded(name), ()) for path in self._paths(other)]
        if not paths and "\\" in key:
            return self.image(key.replace("\\", "/"))
        return [path for path in paths if path.as_posix().endswith(f"/{key}")] or paths

    @cached_property
    def has_images(self) -> bool:
        """Whether there is any image."""
        return bool(self._image_suffixes)

    @cached_property
    def _folders_by_name(self) -> dict[str, tuple[str, ...]]:
        folders: dict[str, tuple[str, ...]] = {}
        for folder, names in _walk(self.root):
            only = (folder,)
            for name in names:
                folders[name] = (*folders[name], folder) if name in folders else only
        return folders

    @cached_property
    def _image_suffixes(self) -> tuple[str, ...]:
        """Suffixes of the images, as they are spelled."""
        suffixes = {"." + name.rpartition(".")[2] for name in self._folders_by_name if "." in name}
        return tuple(sorted(suffix for suffix in suffixes if suffix.lower() in IMAGE_SUFFIXES))

    @cached_property
    def _by_number(self) -> dict[str, list[str]]:
        numbers: dict[str, list[str]] = defaultdict(list)
        for name in self._folders_by_name:
            if (digits := _NUMBERED.search(name)) and name.endswith(self._image_suffixes):
                numbers[digits[1].lstrip("0")].append(name)
        return numbers

    @cached_property
    def _by_folded_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for name in self._folders_by_name:
            if name.endswith(self._image_suffixes):
                for folded in {_folded(name), _folded(name.rpartition(".")[0])}:
                    names[folded].append(name)
        return names

    def _matching_names(self, pattern: str) -> list[str]:
        matches = re.compile(fnmatch.translate(pattern)).match
        return [name for name in self._folders_by_name if matches(name)]

    def _images(self, name: str) -> list[Path]:
        return self._paths(name) if name.endswith(self._image_suffixes) else []

    def _paths(self, name: str) -> list[Path]:
        return [Path(folder, name) for folder in self._folders_by_name.get(name, ())]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """List folders with their files, sorted; a folder that several links lead to counts once."""
    visited = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield folder, sorted(name for name in names if not name.startswith("."))
