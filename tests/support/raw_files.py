"""Small raw files in the formats that ingest reads, made by their own libraries."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mm1.data.prepare.files.raw import Clean, Fetch, Item, Odd
from mm1.data.prepare.locations.roots import RawRoot
from mm1.data.prepare.sources.formats import Options, Reading, discover
from mm1.data.sample import Sample
from mm1.errors import DataError
from tests.support.mixtures import encoded_image


def write_img2dataset(path: Path, pairs: list[tuple[bytes | None, str]], **fields: object) -> Path:
    """A tar of (image, caption) pairs; None for an image that could not be fetched."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (image, caption) in enumerate(pairs):
            record = {"url": f"https://a.invalid/{number}.jpg", "caption": caption, "key": f"{number:09d}"} | fields
            members = {"txt": caption.encode(), "json": json.dumps(record).encode()}
            for suffix, data in (({"jpg": image} if image is not None else {}) | members).items():
                info = tarfile.TarInfo(f"{number:09d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_obelics(path: Path, documents: list[list[str | bytes]], with_bytes: bool = True) -> Path:
    """A parquet of documents; bytes = an image, text = a text. Without bytes in the rows, the images become files beside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list] = {"images": [], "texts": [], "image_bytes": []}
    for row, document in enumerate(documents):
        is_image = [isinstance(item, bytes) for item in document]
        names = [f"{row}-{place}.png" if image else None for place, image in enumerate(is_image)]
        columns["images"].append(names)
        columns["texts"].append([None if image else item for item, image in zip(document, is_image, strict=True)])
        columns["image_bytes"].append([item if image else None for item, image in zip(document, is_image, strict=True)])
        if not with_bytes:
            for name, item in zip(names, document, strict=True):
                if name:
                    (path.parent / name).write_bytes(item)
    types = {"images": pa.list_(pa.string()), "texts": pa.list_(pa.string()), "image_bytes": pa.list_(pa.binary())}
    names = list(types) if with_bytes else ["images", "texts"]
    pq.write_table(pa.table({name: pa.array(columns[name], types[name]) for name in names}), path)
    return path


def write_text(path: Path, texts: list[str]) -> Path:
    """jsonl, jsonl.gz, jsonl.zst or parquet, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts)).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(data))
    else:
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_llava(path: Path, items: list[dict], images: dict[str, bytes] | None = None) -> Path:
    """A JSON list of conversations, and image files beside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(items))
    for name, data in (images or {}).items():
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(data)
    return path


def conversation(*turns: str, image: str | None = None) -> dict:
    """Turns of human and gpt in alternation."""
    values = [{"from": ("human", "gpt")[place % 2], "value": turn} for place, turn in enumerate(turns)]
    return {"id": "0", "conversations": values} | ({"image": image} if image else {})


def pairs(count: int, side: int = 16) -> list[tuple[bytes, str]]:
    return [(encoded_image(number, side, "JPEG"), f"a picture number {number}") for number in range(count)]


def read_all(source: str, root: RawRoot, clean: Clean, fetch: Fetch | None = None) -> Iterator[Sample]:
    """All samples of a source; an odd row raises."""
    for item in items_of(source, root, clean, fetch):
        if isinstance(item, Odd):
            raise DataError(f"{item.origin}: {item.detail}")
        if isinstance(item, Sample):
            yield item


def items_of(source: str, root: RawRoot, clean: Clean, fetch: Fetch | None = None) -> Iterator[Item]:
    """All that the readers of a source yield."""
    options = Options(fetch=fetch)
    for form, files in discover(source, root, options).files.items():
        yield from Reading(source, form, root, files, clean, options)
