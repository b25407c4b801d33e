"""The answers of two models to the same items, paired row by row. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""A row of a table of answers (:mod:`mm1.evals.samples`)."""
SEEN = ("prompt", "images", "references", "choices")
"""Columns that are the same for every model."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Rows of one round of two models. A pair has the same draw and item."""

    pairs: tuple[tuple[Row, Row], ...]
    only_first: tuple[str, ...]
    """Items that only the first model answered; one per draw."""
    only_second: tuple[str, ...]
    repeated: tuple[str, ...]
    """Items of which a model has several answers in one draw; only the last ones are paired."""
    differing: dict[str, tuple[str, ...]]
    """Column -> items in which the models saw something different, in the order of `SEEN`."""


def pair_rows(rows: Iterable[Row], others: Iterable[Row]) -> Pairing:
    """Pair the rows of two models by draw and item, in the order of the first one's."""
    rows, others = list(rows), list(others)
    first, second = ({(row["draw"], row["item"]): row for row in table} for table in (rows, others))
    counts = [Counter((row["draw"], row["item"]) for row in table) for table in (rows, others)]
    pairs = tuple((row, second[key]) for key, row in first.items() if key in second)
    differing = {name: tuple(row["item"] for row, other in pairs if row.get(name) != other.get(name)) for name in SEEN}
    return Pairing(
        pairs=pairs,
        only_first=tuple(item for draw, item in first if (draw, item) not in second),
        only_second=tuple(item for draw, item in second if (draw, item) not in first),
        repeated=tuple(dict.fromkeys(item for each in counts for (_, item), number in each.items() if number > 1)),
        differing={name: items for name, items in differing.items() if items},
    )
