"""The parts of the data: three collections of captions in different formats, three sets of illustrated pages, and texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from . import write
from .benchmark import write_benchmark
from .emoji import Emoji, emoji
from .emoji_parts import caption_pairs, topic_pairs, write_emoji_benchmark, write_name_pages
from .fetch import CLIPART, FONT, HANDBOOK, MANUAL, NAMES, STAMPS, Package, fetch
from .pages import Page, pages
from .pictures import Drawing, Pair, clipart, render, stamps

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
    num_name_pages = 4000

    def __init__(self, out: Path, cache: Path) -> None:
        self.out = out
        self.cache = cache
        self._emoji: list[Emoji] | None = None

    def writers(self) -> dict[str, Callable[[Counts], None]]:
        """Return the functions that write the parts and count what they hold and leave out."""
        return {
            "captions/stamps": self.write_stamps,
            "captions/clipart": self.write_clipart,
            "captions/emoji": self.write_emoji,
            "captions/topics": self.write_topics,
            "interleaved/names": self.write_names,
            "interleaved/manual": self.write_manual,
            "interleaved/handbook": self.write_handbook,
            "text": self.write_texts,
            "benchmarks": self.write_benchmark,
            "benchmarks/emoji": self.write_emoji_benchmark,
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

    def write_emoji(self, counts: Counts) -> None:
        """Write emoji with their English names as img2dataset tars."""
        write.write_tars(_counted(caption_pairs(self.emoji("train"), self.font), counts), self.out / "captions" / "emoji")

    def write_topics(self, counts: Counts) -> None:
        """Write emoji with a question about their group, and the answer, as img2dataset tars."""
        write.write_tars(_counted(topic_pairs(self.emoji("train"), self.font), counts), self.out / "captions" / "topics")

    def write_names(self, counts: Counts) -> None:
        """Write pages of emoji with their names, each page in one language."""
        file = self.out / "interleaved" / "names" / "pages.parquet"
        write_name_pages(self.emoji("train"), self.font, self.num_name_pages, file, counts)

    def write_emoji_benchmark(self, counts: Counts) -> None:
        """Write the held-out emoji as benchmarks: topics, names, and names in one of six languages."""
        for split in ("dev", "test"):
            write_emoji_benchmark(self.emoji(split), self.emoji("train"), self.font, self.out / "benchmarks" / split, counts)

    @property
    def font(self) -> Path:
        """The font of the emoji."""
        return fetch(FONT, self.cache) / "NotoColorEmoji.ttf"

    def emoji(self, split: str) -> list[Emoji]:
        """Return the emoji of a split: every tenth is for `dev` and the next for `test`."""
        if self._emoji is None:
            self._emoji = emoji(fetch(NAMES, self.cache), self.font)
        splits = {0: "dev", 1: "test"}
        return [item for number, item in enumerate(self._emoji) if splits.get(number % HELD_OUT, "train") == split]

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
    left_out = ("interleaved/handbook", "captions/emoji", "captions/topics", "interleaved/names", "benchmarks/emoji")

    def writers(self) -> dict[str, Callable[[Counts], None]]:
        """Return the functions that write the parts."""
        return {name: write for name, write in super().writers().items() if name not in self.left_out}

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


def _counted(pairs: Iterable[Pair], counts: Counts) -> Iterator[Pair]:
    for pair in pairs:
        counts["pairs"] += 1
        yield pair


def _count(counts: Counts, written: Sequence[Page]) -> None:
    counts["pages written"] = len(written)
    counts["images"] = sum(name is not None for page in written for name in page.images)
    counts["words"] = sum(len(text.split()) for page in written for text in page.texts if text)
