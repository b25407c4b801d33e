"""The plan of an ingest: what each source holds, and the parts that it is read in.

Parts are determined by the files alone. Small files are grouped, large ones are split where their format allows it, so that a
single large file uses all cores and a killed process costs one part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mm1.data.config import PART_BYTES
from mm1.data.prepare.locations.names import LABEL_END
from mm1.data.prepare.locations.roots import RawRoot
from mm1.data.prepare.sources.formats import FORMATS, Discovery, Options, discover
from mm1.data.prepare.tally import Tally, merge_examples, sum_counts
from mm1.manifests import IngestPlan, PlannedSource, RawFile, RawPart

MAX_BATCHES = 200
"""Maximum number of batches: the mappers of a loop, whose results are passed through the pipeline engine in one list."""
MAX_SPLIT_FILES = 256
"""Files of a source with more of them are not split: there is work for all cores, and splitting reads every file's headers."""
MAX_GROUPS = 100
"""A source with more folders than this has no groups."""


def plan_source(
    source: str, root: RawRoot, options: Options, part_bytes: int = PART_BYTES
) -> tuple[PlannedSource, list[RawPart]]:
    """Find the files of a source and group them into parts, in order.

    Raises:
        DataError: no file can be read.
        ConfigurationError: the address is a single file that cannot be read.
    """
    discovery = discover(source, root, options)
    parts: list[RawPart] = []
    for form, files in discovery.files.items():
        for group, some in _by_group(files, _groups_of(discovery)):
            for part in _parts_of(form, root, some, part_bytes):
                parts.append(RawPart(source=source, number=len(parts), format=form, group=group, files=tuple(part)))
    return _planned(discovery), parts


def plan_batches(sources: dict[str, PlannedSource], parts: Sequence[RawPart]) -> IngestPlan:
    """Group all parts into batches."""
    return IngestPlan(sources=sources, parts=tuple(parts), num_batches=min(MAX_BATCHES, len(parts)))


def _planned(discovery: Discovery) -> PlannedSource:
    files = [file for some in discovery.files.values() for file in some]
    tally = Tally()
    for each in discovery.left_out:
        tally.leave_out(each.reason, each.name)
    return PlannedSource(
        num_files=discovery.num_files,
        num_bytes=sum(file.num_bytes for file in files),
        left_out=sum_counts([tally.left_out]),
        examples=merge_examples([tally.examples]),
    )


def _groups_of(discovery: Discovery) -> frozenset[str]:
    """Return the first folders of a source (or the labels of its addresses) that are groups; numbered folders are not."""
    folders = {folder for files in discovery.files.values() for file in files if not (folder := _folder(file)).isdigit()}
    return frozenset(folders) if len(folders) <= MAX_GROUPS else frozenset()


def _folder(file: RawFile) -> str:
    folder, slash, _ = file.name.partition("/")
    return folder.removesuffix(LABEL_END) if slash else ""


def _by_group(files: Sequence[RawFile], groups: frozenset[str]) -> Iterator[tuple[str, list[RawFile]]]:
    by_group: dict[str, list[RawFile]] = {}
    for file in files:
        folder = _folder(file)
        by_group.setdefault(folder if folder in groups else "", []).append(file)
    yield from by_group.items()


def _parts_of(form: str, root: RawRoot, files: Sequence[RawFile], part_bytes: int) -> Iterator[list[RawFile]]:
    split = FORMATS[form].split if len(files) <= MAX_SPLIT_FILES else None
    waiting: list[RawFile] = []
    size = 0
    for file in files:
        large = file.num_bytes > part_bytes
        if waiting and (large or size + file.num_bytes > part_bytes):
            yield waiting
            waiting, size = [], 0
        if large:
            yield from ([piece] for piece in (split(root, file, part_bytes) if split else [file]))
        else:
            waiting.append(file)
            size += file.num_bytes
    if waiting:
        yield waiting
