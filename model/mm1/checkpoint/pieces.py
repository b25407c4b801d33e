"""Saved states of an optimiser, by pieces of parameters: written by some processes, read by any others.

Each process writes ``rank-r-of-n.safetensors``, whose tensors are flat, and an index beside it of what they are::

    [name, key, offset, numel, shape?]     name: parameter; key: master, exp_avg ...; offset, numel: in the flattened tensor

A reader asks for a stretch of a parameter's state and gets it, from however many files it lies in; files that are not needed
are not even fetched.
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
"""Key of float32 master weights, where they are kept beside the model's own."""


@dataclass(frozen=True)
class StatePiece:
    """A stretch of one state of one parameter."""

    name: str
    key: str
    offset: int
    tensor: torch.Tensor
    """Flat."""
    shape: tuple[int, ...] | None = None
    """Of the whole state where that is not the parameter's (rows or columns only); the piece is then all of it."""

    def index(self) -> list[Any]:
        """The piece's line in the index."""
        line: list[Any] = [self.name, self.key, self.offset, self.tensor.numel()]
        return [*line, list(self.shape)] if self.shape is not None else line


def tensors_of(pieces: Iterable[StatePiece]) -> dict[str, torch.Tensor]:
    """The tensors of a file, named by their place in the index."""
    return {str(number): piece.tensor for number, piece in enumerate(pieces)}


@dataclass(frozen=True)
class _Place:
    offset: int
    numel: int
    file: str
    tensor: str
    shape: tuple[int, ...] | None


class StateReader:
    """Reads stretches out of saved files.

    Args:
        indices: index of each file.
        fetch: name of a file -> its local path.
        numbers: plain numbers of each parameter's state, such as its step count.
        scalars: which of those the optimiser keeps as tensors.
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
        self._places: dict[tuple[str, str], list[_Place]] = defaultdict(list)
        for file, lines in indices.items():
            for number, (name, key, offset, numel, *shape) in enumerate(lines):
                place = _Place(offset, numel, file, str(number), tuple(shape[0]) if shape else None)
                self._places[name, key].append(place)
        for places in self._places.values():
            places.sort(key=lambda place: place.offset)
        self._keys: dict[str, list[str]] = defaultdict(list)
        for name, key in self._places:
            self._keys[name].append(key)

    @property
    def names(self) -> set[str]:
        """Parameters that there is a state of."""
        return set(self._keys) | set(self.numbers)

    def keys(self, name: str) -> list[str]:
        """States of a parameter that are tensors."""
        return sorted(self._keys.get(name, []))

    def shape(self, name: str, key: str) -> tuple[int, ...] | None:
        """Shape of a state that has not its parameter's shape."""
        return self._places[name, key][0].shape

    def read_into(self, target: torch.Tensor, name: str, key: str, offset: int) -> None:
        """Fill a flat tensor with the stretch of a state that starts at ``offset``.

        Raises:
            CheckpointError: a part of the stretch was not saved.
        """
        position, end = offset, offset + target.numel()
        for place in self._places.get((name, key), ()):
            if place.offset > position:
                break
            stop = min(place.offset + place.numel, end)
            if stop > position:
                part = self._slice(place)[position - place.offset : stop - place.offset]
                target[position - offset : stop - offset].copy_(part)
                position = stop
        if position < end:
            raise CheckpointError(f"the state {key} of {name} is not whole: element {position} was not saved")

    def _slice(self, place: _Place) -> Any:
        if place.file not in self._open:
            self._open[place.file] = safe_open(self._fetch(place.file), framework="pt")
        return self._open[place.file].get_slice(place.tensor)
