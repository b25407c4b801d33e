"""The kinds of sources and the format that each is read in."""

from __future__ import annotations

from pathlib import Path

from mm1.data.sources import img2dataset, llava, obelics, text
from mm1.data.sources.raw import Reader

READERS: dict[str, tuple[str, Reader]] = {
    "captions": ("img2dataset", img2dataset.read),
    "interleaved": ("obelics", obelics.read),
    "text": ("jsonl", text.read),
    "instructions": ("llava", llava.read),
}
"""Source -> name of its format, reader."""


def reader_of(source: str, path: Path) -> tuple[str, Reader]:
    """The format of a source's files, and its reader."""
    name, reader = READERS[source]
    holds_parquet = path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))
    return ("parquet" if source == "text" and holds_parquet else name), reader
