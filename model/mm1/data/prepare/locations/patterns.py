"""Names and patterns that select files below an address."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Sequence

from mm1.config.values import quoted
from mm1.data.prepare.locations.names import shown
from mm1.errors import ConfigurationError

MAX_NAMED = 3
"""Names in a message."""


def literal_prefix(names: Sequence[str]) -> str:
    """Return the longest common beginning of the names without patterns; empty without names."""
    return re.split(r"[*?[]", os.path.commonprefix(names) or "", maxsplit=1)[0]  # noqa: RUF071 - not only whole pieces


def select(address: str, objects: Sequence[tuple[str, int, str]], names: Sequence[str]) -> list[tuple[str, int, str]]:
    """Return the objects with one of the names, below one of them, or that match one of them; a literal name comes first."""
    keys = [entry[0] for entry in objects]
    levels = {name.count("/") for name in names}
    literal = {"/".join(key.split("/")[: level + 1]) for key in keys for level in levels}.intersection(names)
    patterns = [name.split("/") for name in names if name not in literal and glob.has_magic(name)]
    matched: set[int] = set()
    selected = []
    for entry in objects:
        pieces = entry[0].split("/")
        hits = [number for number, pattern in enumerate(patterns) if matches(pieces, pattern)]
        matched.update(hits)
        if hits or any("/".join(pieces[: level + 1]) in literal for level in levels):
            selected.append(entry)
    unmatched = ["/".join(pattern) for number, pattern in enumerate(patterns) if number not in matched]
    check_matches(address, [name for name in names if name not in literal and not glob.has_magic(name)] + unmatched)
    return selected


def matches(pieces: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern matches a path or a folder above it; ``**`` stands for any number of folders.

    Args:
        pieces: pieces of the path.
        pattern: pieces of the pattern. As in a shell, wildcards match no hidden name.
    """
    if not pattern:
        return True
    if pattern[0] == "**" and matches(pieces, pattern[1:]):
        return True
    if not pieces or (pieces[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    if pattern[0] == "**":
        return matches(pieces[1:], pattern)
    return fnmatch.fnmatchcase(pieces[0], pattern[0]) and matches(pieces[1:], pattern[1:])


def check_matches(address: str, missing: Sequence[str]) -> None:
    """Check that no name or pattern is missing.

    Args:
        address: the address that was searched.
        missing: the names and patterns that nothing matches.

    Raises:
        ConfigurationError: there is one.
    """
    if missing:
        names = ", ".join(quoted(shown(name)) for name in missing[:MAX_NAMED])
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        raise ConfigurationError(f"no file of {address} matches {names}{more}; check the pattern, or remove it from the list")
