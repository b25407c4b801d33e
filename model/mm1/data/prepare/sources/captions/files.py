"""Caption pairs as files in folders: an image, and its caption, its JSON, or both next to it.

img2dataset (``--output_format files``) writes ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``. Other tools name the caption
``<key>.caption`` or ``<key>.jpg.txt``. The file that is read, and that counts as the row, is the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mm1.data.prepare.files.kinds import CAPTION_SUFFIXES, IMAGE_SUFFIXES, suffix_of
from mm1.data.prepare.files.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.sources.captions.groups import too_large
from mm1.data.prepare.sources.captions.pairs import pair_samples
from mm1.data.sample import Sample
from mm1.manifests import RawFile


def read_files(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read the pair of an image file."""
    size = file.file.num_bytes
    row: str | OddRow = file.name if size <= file.max_row_bytes else too_large("the pair", size, file.max_row_bytes)
    yield from read_rows(file, ((1, row),), lambda origin, name: _samples(file, origin, name, clean))
    file.num_done = size


def _samples(file: RawInput, origin: str, name: str, clean: Clean) -> list[Sample]:
    image = file.root.read(name) or b""
    caption, fields = (_first(file, _names_next_to(name, suffixes)) for suffixes in (CAPTION_SUFFIXES, ("json",)))
    return pair_samples(file, origin, image, [caption] if caption else [], fields[1] if fields else None, clean)


def _first(file: RawInput, names: Sequence[str]) -> tuple[str, bytes] | None:
    return next(((name, data) for name in names if (data := file.root.read(name)) is not None), None)


def _names_next_to(image: str, suffixes: Sequence[str]) -> list[str]:
    """Return the names that the caption or the JSON of an image may have, in order of preference."""
    folder, slash, last = image.rpartition("/")
    stem = f"{folder}{slash}{last.rpartition('.')[0]}"
    return [
        f"{name}.{each}"
        for name in (image, stem)
        for suffix in suffixes
        for each in (suffix, suffix.upper(), suffix.capitalize())
    ]


def find_pairs(files: Sequence[RawFile]) -> tuple[list[RawFile], list[RawFile]]:
    """Separate the images that have a caption or JSON next to them from the files that belong to no pair.

    Returns:
        The images, by name, each with the size and version of its whole pair; and the other files, in order. Of several images
        that differ in their ending only (``a.jpg``, ``a.png``), the one whose ending comes first has the caption.
    """
    by_name = {file.name: file for file in files}
    images = [file for file in files if suffix_of(file.name) in IMAGE_SUFFIXES]
    pairs: list[RawFile] = []
    used: set[str] = set()
    for image in sorted(images, key=lambda file: IMAGE_SUFFIXES.index(suffix_of(file.name))):
        names = [
            name
            for suffixes in (CAPTION_SUFFIXES, ("json",))
            if (name := next((name for name in _names_next_to(image.name, suffixes) if name in by_name), None))
        ]
        if names and (not used.issuperset(names[:1])):
            members = [image, *(by_name[name] for name in names)]
            size, version = sum(member.num_bytes for member in members), "+".join(member.version for member in members)
            pairs.append(image.model_copy(update={"num_bytes": size, "version": version}))
            used.update(member.name for member in members)
    return sorted(pairs, key=lambda file: file.name), [file for file in files if file.name not in used]
