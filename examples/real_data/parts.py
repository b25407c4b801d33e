"""The parts of the data: two collections of captions in different formats, two sets of illustrated pages, and texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from . import write
from .benchmark import write_benchmark
from .fetch import CLIPART, HANDBOOK, MANUAL, STAMPS, Package, fetch
from .pages import Page, pages
from .pictures import Drawing, clipart, render, stamps

Counts = Counter[str]
HELD_OUT = 10
"""Every tenth stamp is for the benchmark."""


class Parts:
    """All of the data.

    Args:
        out: folder of the data.
        cache: folder of the packages.
    """

    version = "full"
    page_packages: tuple[Package, ...] = (MANUAL, HANDBOOK)

    def __init__(self, out: Path, cache: Path) -> None:
        self.out = out
        self.cache = cache

    def writers(self) -> dict[str, Callable[[Counts], None]]:
        """Return the functions that write the parts and count what they hold and leave out."""
        return {
            "captions/stamps": self.write_stamps,
            "captions/clipart": self.write_clipart,
            "interleaved/manual": self.write_manual,
            "interleaved/handbook": self.write_handbook,
            "text": self.write_texts,
            "benchmarks": self.write_benchmark,
        }

    def write_stamps(self, counts: Counts) -> None:
        """Write Tux Paint's stamps as img2dataset tars, without every tenth, which the benchmark has."""
        drawings = [drawing for number, drawing in enumerate(self.stamps(counts)) if number % HELD_OUT]
        write.write_tars(render(drawings, counts), self.out / "captions" / "stamps")

    def write_clipart(self, counts: Counts) -> None:
        """Write Open Clip Art as a parquet file of the Hugging Face hub."""
        drawings = self.clipart(counts)
        write.write_hub_parquet(render(drawings, counts), self.out / "captions" / "clipart" / "train.parquet")

    def write_manual(self, counts: Counts) -> None:
        """Write the illustrated pages of GIMP's manual, with the images in a folder next to the parquet file."""
        self._write_pages(MANUAL, counts, inside=False)

    def write_handbook(self, counts: Counts) -> None:
        """Write the illustrated pages of the handbook, with the images in the parquet file."""
        self._write_pages(HANDBOOK, counts, inside=True)

    def write_texts(self, counts: Counts) -> None:
        """Write the pages without images as texts, so that no page is in two sources."""
        texts = []
        for package in self.page_packages:
            folder = fetch(package, self.cache)
            texts += [page for page in pages(folder, counts) if not any(page.images)]
        _count(counts, texts)
        write.write_texts(texts, self.out / "text" / "pages.jsonl.zst")

    def write_benchmark(self, counts: Counts) -> None:
        """Write every tenth stamp as a benchmark."""
        write_benchmark(render(self.stamps(Counter())[::HELD_OUT], counts), self.out / "benchmarks")

    def stamps(self, counts: Counts) -> list[Drawing]:
        """Return the stamps."""
        return list(stamps(fetch(STAMPS, self.cache), counts))

    def clipart(self, counts: Counts) -> list[Drawing]:
        """Return the drawings to write."""
        return list(clipart(fetch(CLIPART, self.cache), counts))

    def illustrated(self, every: Sequence[Page]) -> list[Page]:
        """Return the illustrated pages to write."""
        return [page for page in every if any(page.images)]

    def _write_pages(self, package: Package, counts: Counts, inside: bool) -> None:
        folder = fetch(package, self.cache)
        illustrated = self.illustrated(list(pages(folder, counts)))
        _count(counts, illustrated)
        file = self.out / "interleaved" / package.name / "pages.parquet"
        write.write_pages(illustrated, folder, file, inside)


class SmallParts(Parts):
    """A small part of each: pictures of two topics in the formats of the two collections, and pages of the manual."""

    version = "small"
    page_packages = (MANUAL,)
    num_pairs = 100
    """Pictures of each topic."""
    num_pages = 40

    def writers(self) -> dict[str, Callable[[Counts], None]]:
        """Return the functions that write the parts."""
        return {name: write for name, write in super().writers().items() if name != "interleaved/handbook"}

    def stamps(self, counts: Counts) -> list[Drawing]:
        """Return some animals."""
        return self._topic("animals", counts)

    def clipart(self, counts: Counts) -> list[Drawing]:
        """Return some food, which are stamps too."""
        return self._topic("food", counts)

    def illustrated(self, every: Sequence[Page]) -> list[Page]:
        """Return some illustrated pages, spread over the manual."""
        illustrated = super().illustrated(every)
        return illustrated[:: len(illustrated) // self.num_pages][: self.num_pages]

    def _topic(self, topic: str, counts: Counts) -> list[Drawing]:
        return [drawing for drawing in super().stamps(counts) if drawing.topic.startswith(topic)][: self.num_pairs]


def _count(counts: Counts, written: Sequence[Page]) -> None:
    counts["pages written"] = len(written)
    counts["images"] = sum(name is not None for page in written for name in page.images)
    counts["words"] = sum(len(text.split()) for page in written for text in page.texts if text)
