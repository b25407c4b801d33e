"""Counts of what happened to rows: kept, dropped by reason, shortened, odd, or not read; with examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

MAX_EXAMPLES = 3
"""Number of examples kept per reason."""


class Tally:
    """Counts of the rows of a part.

    Attributes:
        num_read: rows: samples and odd rows.
        dropped: reason -> rows; the odd rows are among them.
        removed: reason -> images and texts removed from documents that may stay.
        odd: kind of odd row -> rows.
        left_out: reason -> members of archives and pieces of rows that are not read.
        examples: reason or kind -> the first of them.
    """

    def __init__(self) -> None:
        self.num_read = 0
        self.dropped: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def drop(self, reason: str, example: str) -> None:
        """Count a dropped row."""
        self._count(self.dropped, reason, example)

    def remove(self, reason: str, example: str) -> None:
        """Count an image or a text removed from a document."""
        self._count(self.removed, reason, example)

    def read_odd(self, kind: str, example: str) -> None:
        """Count a row that cannot be read."""
        self.num_read += 1
        self.odd[kind] += 1
        self.drop(kind, example)

    def leave_out(self, reason: str, example: str) -> None:
        """Count something that is no row."""
        self._count(self.left_out, reason, example)

    def _count(self, counts: Counter[str], reason: str, example: str) -> None:
        counts[reason] += 1
        if len(self.examples[reason]) < MAX_EXAMPLES:
            self.examples[reason].append(example)


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum counts by name, sorted by name."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def merge_examples(examples: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Collect the first few examples of each name, sorted by name."""
    gathered: dict[str, list[str]] = defaultdict(list)
    for each in examples:
        for name, some in each.items():
            gathered[name] += some
    return {name: tuple(some[:MAX_EXAMPLES]) for name, some in sorted(gathered.items())}
