"""The files below a folder of this machine; links are followed, because only the owner of the folder can make them.

A link inside the folder may lead anywhere. A link to a folder that contains it is a loop and is left out, and so is a link to
nothing. Sockets, pipes and devices are never opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from mm1.data.prepare.locations.names import LeftOut, shown


class LocalFile(NamedTuple):
    """A file below a folder."""

    name: str
    """Shown form, relative to the folder, with forward slashes."""
    status: os.stat_result
    """Of the file itself, not of the link to it."""


def walk(folder: str, name: str = "", *, hidden: bool = False) -> Iterator[LocalFile | LeftOut]:
    """List a file, or the files below a folder, in no particular order.

    Args:
        folder: the folder that names are relative to.
        name: true name of the file or folder to list, relative to ``folder``; empty = the folder itself.
        hidden: whether hidden files and folders are listed, too.

    Raises:
        OSError: the folder cannot be listed. Folders below it that cannot be listed are left out.
    """
    if name and not stat.S_ISDIR(_mode(os.path.join(folder, name))):  # noqa: PTH118 - a Path would drop what it normalises
        yield _judge(os.path.join(folder, name), name)  # noqa: PTH118
        return
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(name, frozenset())]
    while pending:
        parent, above = pending.pop()
        path = os.path.join(folder, parent) if parent else folder  # noqa: PTH118
        try:
            status = os.stat(path)  # noqa: PTH116
            with os.scandir(path) as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            if parent == name:
                raise
            yield LeftOut(shown(parent), 0, _reason(error))
            continue
        above |= {(status.st_dev, status.st_ino)}
        for entry in names:
            relative, where = f"{parent}/{entry}" if parent else entry, os.path.join(path, entry)  # noqa: PTH118
            item = _judge(where, relative)
            is_folder = isinstance(item, LocalFile) and stat.S_ISDIR(item.status.st_mode)
            if entry.startswith(".") and not hidden:
                size = item.status.st_size if isinstance(item, LocalFile) and not is_folder else 0
                yield LeftOut(shown(relative), size, "hidden folder" if is_folder else "hidden file")
            elif not isinstance(item, LocalFile) or not is_folder:
                yield item
            elif (item.status.st_dev, item.status.st_ino) in above:
                yield LeftOut(item.name, 0, "link loop")
            else:
                pending.append((relative, above))


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return 0


def _judge(path: str, name: str) -> LocalFile | LeftOut:
    """Return a file or folder, or the reason why it is neither."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return LeftOut(shown(name), 0, _reason(error))
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return LocalFile(shown(name), status)
    return LeftOut(shown(name), 0, "not a regular file")


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "broken link"
    return "link loop" if error.errno == errno.ELOOP else str(error.strerror).lower()
