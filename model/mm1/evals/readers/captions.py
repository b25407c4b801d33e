"""Caption files: COCO's format and the others in which caption sets are published. One item per image, with all its captions.

COCO, NoCaps          {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}
Karpathy's splits     {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}
TextCaps              {"data": [{"image_id", "caption_str", "reference_strs"}]}, one entry per caption
pairs                 [{"image", "caption"}], a caption or a list of them; also as JSON lines
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mm1.errors import DataError
from mm1.evals.files import DataRow, Files
from mm1.evals.items import Item

Row = Mapping[str, Any]


def read_captions(files: Files, name: str) -> list[Item]:
    """Read the items of ``<name>.json`` or ``<name>.jsonl``, in any of the formats.

    Raises:
        ConfigurationError: the file is missing.
        DataError: the file is damaged, or in another format.
    """
    lines, file = Path(f"{name}.jsonl"), Path(f"{name}.json")
    if files.has(lines.name) and not files.has(file.name):
        return read_pairs(files, lines, files.rows(lines))
    keys = files.keys(file)
    if not keys:
        return read_pairs(files, file, files.entries(file))
    if "data" in keys:
        return read_textcaps(files, file)
    if "annotations" in keys:
        return read_coco(files, file)
    with files.damaged(file):
        _, first = next(files.entries(file, "images"), (0, {}))
        return read_karpathy(files, file) if "sentences" in first else read_coco(files, file)


def read_coco(files: Files, file: Path, kind: Callable[[Row], str] = lambda image: "") -> list[Item]:
    """Read a file in COCO's format; without captions, its images are a test set.

    Args:
        files: the task's files.
        file: the file.
        kind: type of an image for the breakdown of scores.
    """
    captions: dict[str, list[str]] = {}
    if "annotations" in files.keys(file):
        for image, caption in files.each(file, files.entries(file, "annotations"), _annotation):
            captions.setdefault(image, []).append(caption)

    def make(image: Row) -> Item | None:
        references = captions.pop(str(image["id"]), [])
        if not references and has_captions:
            return None
        return caption_item(str(image["id"]), files.image(image["file_name"]), references, kind(image))

    has_captions = bool(captions)
    items = files.items(file, files.entries(file, "images"), make)
    if captions:
        raise DataError(f"{files.locate(file)}: a caption is of image {next(iter(captions))}, which is not among its images")
    return items


def _annotation(row: Row) -> tuple[str, str]:
    return str(row["image_id"]), str(row["caption"])


def read_karpathy(files: Files, file: Path, splits: tuple[str, ...] = ()) -> list[Item]:
    """Read a file of Karpathy's splits; those of some splits, or all of them."""

    def make(image: Row) -> Item | None:
        if splits and image["split"] not in splits:
            return None
        name = f"{image['filepath']}/{image['filename']}" if image.get("filepath") else str(image["filename"])
        references = [str(sentence["raw"]) for sentence in image["sentences"]]
        return caption_item(str(image.get("cocoid", image.get("imgid", name))), files.image(name), references)

    return files.items(file, files.entries(file, "images"), make)


def read_textcaps(files: Files, file: Path) -> list[Item]:
    """Read a file of TextCaps."""

    def make(row: Row) -> tuple[str, list[str]]:
        captions = row.get("reference_strs") or ([row["caption_str"]] if row.get("caption_str") else [])
        return str(row["image_id"]), list(map(str, captions))

    return _by_image(files, file, files.each(file, files.entries(file, "data"), make))


def read_pairs(files: Files, file: Path, rows: Iterable[DataRow]) -> list[Item]:
    """Read pairs of an image and a caption, or a list of captions."""

    def make(row: Row) -> tuple[str, list[str]]:
        captions = row["caption"] if "caption" in row else row["captions"]
        return str(row["image"]), [captions] if isinstance(captions, str) else list(map(str, captions))

    return _by_image(files, file, files.each(file, rows, make))


def _by_image(files: Files, file: Path, pairs: Iterable[tuple[str, list[str]]]) -> list[Item]:
    captions: dict[str, dict[str, None]] = {}
    for image, texts in pairs:
        captions.setdefault(image, {}).update(dict.fromkeys(texts))
    return [caption_item(image, files.image(image), list(texts)) for image, texts in captions.items()]


def caption_item(image_id: str, image: Any, captions: list[str], kind: str = "") -> Item:
    """Return the item of an image; the first caption is its answer in a demonstration."""
    return Item(
        id=image_id,
        images=(image,),
        question_type=kind,
        answer=captions[0] if captions else "",
        references=tuple(captions),
    )
