"""Caption pairs in webdataset archives: tars as img2dataset and webdataset write them, compressed or not, and zips.

An archive contains ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``. The rules by which members belong together are in
:mod:`mm1.data.prepare.sources.captions.groups`. Hidden members, read-me files and the metadata of archive tools are left out
with their reason. A link to another member has its content.
"""

from __future__ import annotations

from collections.abc import Iterator

from mm1.data.prepare.files.compressed import compression_of
from mm1.data.prepare.files.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.tar_reader import TarDamage, TarReader
from mm1.data.prepare.locations.roots import LeftOut, RawRoot
from mm1.data.prepare.sources.captions.archives import Entry, may_be_entry, plain_name, tar_entries, zip_entries
from mm1.data.prepare.sources.captions.groups import Group, Pair, Row, Skipped
from mm1.data.prepare.sources.captions.member_names import Endings, split_name
from mm1.data.prepare.sources.captions.pairs import pair_samples
from mm1.data.sample import Sample
from mm1.manifests import RawFile

MAX_KNOWN_KEYS = 1 << 19
"""Number of keys of an archive that are remembered to notice members that are not adjacent."""


def read_tar(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a tar, or a range of one.

    Raises:
        DataError: not a tar, a damaged or truncated one, or one with member names that point outside the archive.
    """
    return _items(file, tar_entries(file), clean)


def read_zip(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a zip.

    Raises:
        DataError: not a zip, a damaged or truncated one, or one with member names that point outside the archive.
    """
    return _items(file, zip_entries(file), clean)


def split_tar(root: RawRoot, file: RawFile, target_bytes: int) -> list[RawFile]:
    """Split a tar between keys; reading the ranges gives the items of the whole file, in order.

    Compressed tars, objects in a bucket, and tars in which a key appears at several places or global headers set fields, are
    not split.

    Args:
        root: location of the file.
        file: the whole file.
        target_bytes: size of a range, about.
    """
    if file.num_bytes < 2 * target_bytes or not root.is_local(file.name):
        return [file]
    starts, keys, last = [0], set[int](), None
    with root.local(file.name).open("rb") as stream:
        if compression_of(stream.peek(16)):
            return [file]
        reader = TarReader(stream, seekable=True)
        try:
            for member in reader:
                if not may_be_entry(member):
                    continue
                key = split_name(plain_name(member.name))[0]
                if (member.archive, key) != last:
                    if hash(key) in keys or reader.has_defaults:
                        return [file]
                    keys.add(hash(key))
                    if last is not None and member.start - starts[-1] >= target_bytes:
                        starts.append(member.start)
                last = (member.archive, key)
        except TarDamage:
            return [file]  # the reader says where
    stops = [*starts[1:], file.num_bytes]
    return [
        file.model_copy(update={"start": start, "stop": None if stop == file.num_bytes else stop, "num_bytes": stop - start})
        for start, stop in zip(starts, stops, strict=True)
    ]


# -- from members to samples ------------------------------------------------------------------------------------------------


def _items(file: RawInput, entries: Iterator[Entry | LeftOut], clean: Clean) -> Iterator[Item]:
    endings = Endings(file.columns)
    known: set[int] = set()

    def make(origin: str, pair: Pair) -> list[Sample]:
        return pair_samples(file, origin, pair.image, pair.texts, pair.json, clean)

    for row in _rows(file, entries, endings):
        if isinstance(row, LeftOut):
            yield row
        elif isinstance(row, Skipped):
            yield LeftOut(file.origin(row.name), row.num_bytes, row.reason)
        else:
            yield from read_rows(file, (_checked(row, known),), make)


def _rows(file: RawInput, entries: Iterator[Entry | LeftOut], endings: Endings) -> Iterator[Row | Skipped | LeftOut]:
    """Group adjacent members."""
    current, group = (-1, ""), Group("", endings, file.max_row_bytes)
    for entry in entries:
        if isinstance(entry, LeftOut):
            yield entry
            continue
        if entry.group != current:
            yield from group.rows()
            current, group = entry.group, Group(entry.group[1], endings, file.max_row_bytes)
        group.add(entry.role, entry.ending, entry.content)
        while group.is_full:
            yield from group.take_complete()
    yield from group.rows()


def _checked(row: Row, known: set[int]) -> Row:
    """Replace a part of a pair by an odd row if other members of its name came before."""
    name, pair = row
    if isinstance(pair, Pair) and not pair.is_complete and hash(name) in known:
        part = "an image" if pair.image else "a caption"
        message = f"{part} whose pair has other members elsewhere: members of a key must be adjacent; use tar --sort=name"
        return name, OddRow("not_adjacent", message)
    if len(known) < MAX_KNOWN_KEYS:
        known.add(hash(name))
    return row
