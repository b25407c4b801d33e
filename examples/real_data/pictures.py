"""Image-caption pairs: Tux Paint's stamps (a text file next to each picture) and Open Clip Art (the title in the drawing)."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from rich.progress import track

try:
    import resvg_py
except ImportError:  # pip install resvg_py
    resvg_py = None

SIDE_PX = 256
"""Longer side of a rendered drawing."""
_RDF = {
    "cc": "http://web.resource.org/cc/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}


class Drawing(NamedTuple):
    """A picture file and its caption."""

    path: Path
    caption: str
    name: str
    """Its path in the package's folder, such as ``animals/birds/penguin.png``."""

    @property
    def topic(self) -> str:
        """Its folder, such as ``animals/birds``."""
        return self.name.rpartition("/")[0]


class Pair(NamedTuple):
    """An encoded picture (PNG) and its caption."""

    png: bytes
    drawing: Drawing


def stamps(folder: Path, counts: Counter[str]) -> Iterator[Drawing]:
    """Find the stamps. The first line of a stamp's text file is its English caption."""
    for text in sorted(folder.rglob("*.txt")):
        picture = next((path for suffix in (".png", ".svg") if (path := text.with_suffix(suffix)).is_file()), None)
        caption = text.read_text(encoding="utf-8").partition("\n")[0].strip()
        if picture is None:
            counts["captions without a picture"] += 1
        else:
            yield Drawing(picture, caption, picture.relative_to(folder).as_posix())


def clipart(folder: Path, counts: Counter[str]) -> Iterator[Drawing]:
    """Find the drawings that have a title."""
    for path in sorted(folder.rglob("*.svg")):
        try:
            caption = _title(path)
        except ET.ParseError:
            counts["drawings that are not XML"] += 1
            continue
        if not caption:
            counts["drawings without a title"] += 1
        else:
            yield Drawing(path, caption, path.relative_to(folder).as_posix())


def _title(path: Path) -> str:
    """Read a drawing's title, and its description if there is one, from its metadata."""
    work = ET.parse(path).getroot().find(".//cc:Work", _RDF)
    if work is None:
        return ""
    texts = [" ".join((work.findtext(f"dc:{name}", "", _RDF) or "").split()) for name in ("title", "description")]
    # the descriptions of some files are Perl's words for a hash
    return ": ".join(text for text in texts if text and not text.startswith("HASH(0x"))


def render(drawings: list[Drawing], counts: Counter[str]) -> Iterator[Pair]:
    """Read or render pictures in order, with a process per core. Drawings that cannot be rendered are counted."""
    # spawned, not forked: the caller may have threads (pyarrow)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        images = track(pool.map(picture_of, drawings, chunksize=16), "pictures", len(drawings))
        for drawing, png in zip(drawings, images, strict=True):
            if isinstance(png, bytes):
                counts["pairs"] += 1
                yield Pair(png, drawing)
            else:
                counts[png] += 1


def picture_of(drawing: Drawing) -> bytes | str:
    """Return a picture as PNG, or the reason why there is none."""
    if drawing.path.suffix == ".png":
        return drawing.path.read_bytes()
    if resvg_py is None:
        return "drawings left out because resvg_py is not installed"
    try:
        png = resvg_py.svg_to_bytes(svg_path=str(drawing.path), width=SIDE_PX, dpi=96)
    except ValueError:
        return "drawings that cannot be rendered"
    with Image.open(io.BytesIO(png)) as image:
        return "drawings without a visible part" if image.getchannel("A").getextrema() == (0, 0) else bytes(png)
