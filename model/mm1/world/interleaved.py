"""The interleaved part: web-page-like documents in OBELICS's parquet format.

Columns, one row per document: ``images`` and ``texts`` (parallel lists, exactly one of the two not null at each position),
``metadata`` and ``general_metadata`` (JSON strings), and ``image_bytes`` (a third parallel list), which contains the encoded
images that OBELICS leaves to be downloaded. The pages themselves are created in :mod:`mm1.world.pages`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.world import streams
from mm1.world.config import WorldConfig
from mm1.world.pages import PAGE_KINDS, Entry, page
from mm1.world.render import encoded_images
from mm1.world.scene import SceneSampler, Split, held_out_pairs

SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.string())),
        ("texts", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("general_metadata", pa.string()),
        ("image_bytes", pa.list_(pa.binary())),
    ]
)


def _row(number: int, kind: str, entries: list[Entry], pictures: Iterator[bytes], side: int) -> dict[str, object]:
    images: list[str | None] = []
    texts: list[str | None] = []
    content: list[bytes | None] = []
    for scenes, text in entries:
        for _ in scenes:
            images.append(f"https://toy-world.invalid/pages/{number:08d}/{len(images):03d}.jpg")
            texts.append(None)
            content.append(next(pictures))
        images.append(None)
        texts.append(text)
        content.append(None)
    size = {"original_width": side, "original_height": side, "format": "jpeg"}
    metadata = [None if name is None else {"src": name, **size} for name in images]
    general = {"url": f"https://toy-world.invalid/pages/{number:08d}", "page_kind": kind}
    return {
        "images": images,
        "texts": texts,
        "metadata": json.dumps(metadata),
        "general_metadata": json.dumps(general),
        "image_bytes": content,
    }


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the interleaved part into an existing folder.

    Returns:
        Number of documents of each kind, and number of images.
    """
    sampler = SceneSampler(streams.choices(config.seed, "interleaved"), Split.TRAIN, held_out_pairs(config))
    noise = streams.pixels(config.seed, "interleaved")
    counts = dict.fromkeys([*PAGE_KINDS, "images"], 0)
    for file, start in enumerate(range(0, config.num_interleaved, config.documents_per_file)):
        size = min(config.documents_per_file, config.num_interleaved - start)
        pages = [page(sampler, config) for _ in range(size)]
        scenes = [scene for _, entries in pages for images, _ in entries for scene in images]
        pictures = encoded_images(scenes, config.image_size_px, noise)
        rows = [
            _row(start + index, kind, entries, pictures, config.image_size_px) for index, (kind, entries) in enumerate(pages)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / f"interleaved-{file:05d}.parquet")
        for kind, _ in pages:
            counts[kind] += 1
        counts["images"] += len(scenes)
    return counts
