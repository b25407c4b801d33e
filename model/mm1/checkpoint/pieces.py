"""Optimizer states saved as pieces of parameters, which any other number of processes can read.

Each process writes ``rank-r-of-n.safetensors`` with flat tensors, and an index of them::

    [name, key, offset, numel, shape?]     name: parameter; key: master, exp_avg ...; offset, numel: in the flattened tensor

A reader requests a range of a parameter's state, and gets it from all files that contain parts of it. Files that are not
needed are not fetched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from mm1.errors import CheckpointError

MASTER = "master"
"""Key of float32 master weights, if they are separate from the model's own."""
WEIGHT = "weight"
"""Key of weights that the published model lacks."""


@dataclass(frozen=True)
class StatePiece:
    """A range of one state of one parameter."""

    name: str
    key: str
    offset: int
    tensor: torch.Tensor
    """Flat."""
    shape: tuple[int, ...] | None = None
    """Shape of the state if it is not the parameter's (rows or columns only); the piece is then the whole state."""

    def index(self) -> list[Any]:
        """Return the piece's line in the index."""
        line: list[Any] = [self.name, self.key, self.offset, self.tensor.numel()]
        return [*line, list(self.shape)] if self.shape is not None else line


def tensors_of(pieces: Iterable[StatePiece]) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, named by their position in the index."""
    return {str(number): piece.tensor for number, piece in enumerate(pieces)}


@dataclass(frozen=True)
class _Entry:
    offset: int
    numel: int
    file: str
    tensor: str
    shape: tuple[int, ...] | None


class StateReader:
    """Reads ranges of states from saved files.

    Args:
        indices: index of each file.
        fetch: name of a file -> its local path.
        numbers: numbers in each parameter's state, such as its step count.
        scalars: names of the numbers that the optimizer keeps as tensors.
    """

    def __init__(
        self,
        indices: Mapping[str, list[list[Any]]],
        fetch: Callable[[str], Path],
        numbers: Mapping[str, Mapping[str, float]],
        scalars: Iterable[str] = (),
    ) -> None:
        self.numbers = numbers
        self.scalars = set(scalars)
        self._fetch = fetch
        self._open: dict[str, Any] = {}
        self._entries: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
        for file, lines in indices.items():
            for number, (name, key, offset, numel, *shape) in enumerate(lines):
                entry = _Entry(offset, numel, file, str(number), tuple(shape[0]) if shape else None)
                self._entries[name, key].append(entry)
        for entries in self._entries.values():
            entries.sort(key=lambda entry: entry.offset)
        self._keys: dict[str, list[str]] = defaultdict(list)
        for name, key in self._entries:
            self._keys[name].append(key)

    @property
    def names(self) -> set[str]:
        """Names of the parameters that have a state."""
        return set(self._keys) | set(self.numbers)

    def keys(self, name: str) -> list[str]:
        """Return the names of a parameter's tensor states."""
        return sorted(self._keys.get(name, []))

    def shape(self, name: str, key: str) -> tuple[int, ...] | None:
        """Return the shape of a state, or None if it has its parameter's shape."""
        return self._entries[name, key][0].shape

    def read_into(self, target: torch.Tensor, name: str, key: str, offset: int) -> None:
        """Fill a flat tensor with the range of a state that starts at ``offset``.

        Raises:
            CheckpointError: a part of the range was not saved.
        """
        position, end = offset, offset + target.numel()
        for entry in self._entries.get((name, key), ()):
            if entry.offset > position:
                break
            stop = min(entry.offset + entry.numel, end)
            if stop > position:
                part = self._slice(entry)[position - entry.offset : stop - entry.offset]
                target[position - offset : stop - offset].copy_(part)
                position = stop
        if position < end:
            raise CheckpointError(f"the state {key} of {name} is incomplete: element {position} was not saved")

    def _slice(self, entry: _Entry) -> Any:
        if entry.file not in self._open:
            self._open[entry.file] = safe_open(self._fetch(entry.file), framework="pt")
        return self._open[entry.file].get_slice(entry.tensor)
