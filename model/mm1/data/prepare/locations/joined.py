"""Several addresses of one source, read as one root."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from mm1.config.values import quoted
from mm1.data.prepare.locations.addresses import Address, label_pieces
from mm1.data.prepare.locations.names import LABEL_END, LeftOut, shown
from mm1.data.prepare.locations.roots import RawRoot
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawFile


class JoinedRoot(RawRoot):
    """Several roots; each name begins with the label of its root: ``cc12m:/00000.tar``.

    A name in a row leads to nothing outside the root of its file.

    Args:
        roots: label -> root, in the order in which they are read.
    """

    def __init__(self, roots: dict[str, RawRoot]) -> None:
        self.roots = roots
        self.address = " ".join(root.address for root in roots.values())
        if len(self.address) > 200:
            self.address = f"{next(iter(roots.values())).address} and {len(roots) - 1} other addresses"
        self.is_file = all(root.is_file for root in roots.values())

    def list(self) -> builtins.list[RawFile]:
        """List all files, root by root.

        Raises:
            ConfigurationError: two addresses hold the same file.
        """
        files, locations = [], dict[str, str]()
        for label, root in self.roots.items():
            for file in root.list():
                previous = locations.setdefault(location := root.location(file.name), label)
                if previous != label:
                    addresses = f"{quoted(self.roots[previous].address)} and {quoted(root.address)}"
                    raise ConfigurationError(f"{quoted(location)} is in two addresses, {addresses}; give each file once")
                files.append(file.model_copy(update={"name": _join(label, file.name)}))
        return files

    def left_out(self) -> builtins.list[LeftOut]:
        """List what the roots leave out."""
        return [item._replace(name=_join(label, item.name)) for label, root in self.roots.items() for item in root.left_out()]

    def local(self, name: str) -> Path:
        """Return the path of a file on the local disk."""
        root, rest = self._split(name)
        return root.local(rest)

    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it does not exist."""
        root, rest = self._split(name)
        return root.read(rest)

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Read some bytes of a listed file, fewer at its end."""
        root, rest = self._split(name)
        return root.read_range(rest, start, size)

    def is_local(self, name: str) -> bool:
        """Whether a listed file is on this machine."""
        root, rest = self._split(name)
        return root.is_local(rest)

    def location(self, name: str) -> str:
        """Return the full address of a file."""
        root, rest = self._split(name)
        return root.location(rest)

    def label_of(self, name: str) -> str:
        """Return the label of the address that a file comes from.

        Raises:
            DataError: the name has none of the labels.
        """
        label, separator, _ = name.partition(f"{LABEL_END}/")
        if not separator or label not in self.roots:
            raise DataError(f"{quoted(name)} points outside {self.address}; its addresses are {', '.join(self.roots)}")
        return label

    def _split(self, name: str) -> tuple[RawRoot, str]:
        label = self.label_of(name)
        return self.roots[label], name[len(_join(label, "")) :]


def _join(label: str, name: str) -> str:
    return f"{label}{LABEL_END}/{name}"


def labels_of(addresses: Sequence[Address]) -> builtins.list[str]:
    """Return a label for each address: the last piece of its path, or as many of them as distinguish all addresses.

    Labels depend on the addresses' paths alone: ``cc12m`` and ``sbu``, or ``disk1-cc12m`` and ``disk2-cc12m``.
    """
    pieces = [label_pieces(address) for address in addresses]
    labels: builtins.list[str] = []
    for depth in range(1, max(map(len, pieces)) + 1):
        labels = [shown("-".join(path[-depth:])).replace(LABEL_END, "_") for path in pieces]
        if len(set(labels)) == len(labels):
            return labels
    unique: builtins.list[str] = []
    for label in labels:  # such as /data/x and s3://data/x
        candidates = (f"{label}-{number}" if number > 1 else label for number in count(1))
        unique.append(next(candidate for candidate in candidates if candidate not in unique))
    return unique
