"""Two models' answers to the same items, compared pair by pair. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mm1.errors import ConfigurationError
from mm1.evals.paired import Difference, paired_difference
from mm1.evals.pairing import Row, pair_rows
from mm1.lineage.text import count, listed

if TYPE_CHECKING:
    import pyarrow as pa

ROUND = ("task", "split", "shots", "control")
"""Columns that name a round of an evaluation; draw and item name a row of it."""
MAX_NAMES = 5

Key = tuple[str, str, int, str]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of one round of two models."""

    task: str
    split: str
    shots: int
    control: str
    metric: str
    value_a: float
    value_b: float
    num_items: int
    """Number of items; each has an answer for each draw of demonstrations."""
    difference: Difference
    """Of the first model minus the second."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations."""

    results: tuple[Compared, ...]
    only_a: tuple[Key, ...]
    """Rounds that only the first one has."""
    only_b: tuple[Key, ...]
    pairs: dict[Key, tuple[tuple[Row, Row], ...]]
    """The rows of each round of both."""

    def most_different(self, count: int) -> Iterator[tuple[Key, str, Row, Row]]:
        """Return the items whose headline metric differs most, the first model's losses and gains, without controls."""
        for key, pairs in self.pairs.items():
            metrics_b = dict(pairs[0][1]["values"])
            metric = next((name for name in dict(pairs[0][0]["values"]) if name in metrics_b), None)
            if key[3] != "none" or metric is None:
                continue
            differing = [pair for pair in pairs if _gap(pair, metric)]
            for row, other in sorted(differing, key=lambda pair: (-abs(_gap(pair, metric)), pair[0]["item"]))[:count]:
                yield key, metric, row, other


def _gap(pair: tuple[Row, Row], metric: str) -> float:
    return float(dict(pair[0]["values"])[metric] - dict(pair[1]["values"])[metric])


def compare_tables(table_a: pa.Table, table_b: pa.Table) -> Comparison:
    """Compare two tables of answers (:mod:`mm1.evals.samples`).

    Raises:
        ConfigurationError: they have no round in common, or items or prompts of a round differ; the message names them.
    """
    rounds_a, rounds_b = _rounds(table_a), _rounds(table_b)
    common = [key for key in rounds_a if key in rounds_b]
    if not common:
        names = [", ".join(sorted({f"{task}@{shots}" for task, _, shots, _ in rounds})) for rounds in (rounds_a, rounds_b)]
        raise ConfigurationError(f"nothing to compare: the first evaluation has {names[0] or 'nothing'}, the second {names[1]}")
    pairs = {key: _pairs(key, rounds_a[key], rounds_b[key]) for key in common}
    return Comparison(
        results=tuple(result for key in common for result in _results(key, pairs[key])),
        only_a=tuple(key for key in rounds_a if key not in rounds_b),
        only_b=tuple(key for key in rounds_b if key not in rounds_a),
        pairs=pairs,
    )


def _rounds(table: pa.Table) -> dict[Key, list[Row]]:
    rounds: dict[Key, list[Row]] = defaultdict(list)
    for row in table.to_pylist():
        task, split, shots, control = (row[name] for name in ROUND)
        rounds[task, split, shots, control].append(row)
    return rounds


def _pairs(key: Key, rows_a: Sequence[Row], rows_b: Sequence[Row]) -> tuple[tuple[Row, Row], ...]:
    pairing = pair_rows(rows_a, rows_b)
    if pairing.repeated:
        raise ConfigurationError(f"{_label(key)}: several answers to {_listed(pairing.repeated)}: evaluate again")
    for items, which in ((pairing.only_first, "first"), (pairing.only_second, "second")):
        if items:
            raise ConfigurationError(
                f"{_label(key)}: {count(len(items), 'item')} only in the {which} evaluation: {_listed(items)}; "
                "evaluate both with the same --limit, --seed and --draws"
            )
    for name, items in pairing.differing.items():
        raise ConfigurationError(
            f"{_label(key)}: the models saw different inputs for {count(len(items), 'item')}, {name} of {_listed(items)}; "
            "evaluate both with the same files, templates, style and demonstrations"
        )
    return pairing.pairs


def _listed(items: Sequence[str]) -> str:
    return listed(dict.fromkeys(items), MAX_NAMES)


def _label(key: Key) -> str:
    return f"{key[0]} of {key[1]}, {key[2]} shots" + ("" if key[3] == "none" else f", {key[3]}")


def _results(key: Key, pairs: Sequence[tuple[Row, Row]]) -> Iterator[Compared]:
    task, split, shots, control = key
    clusters = [row["cluster"] for row, _ in pairs]
    metrics, metrics_b = (dict(pairs[0][side]["values"]) for side in (0, 1))
    for metric in (name for name in metrics if name in metrics_b):  # only one may have a judge's
        values_a, values_b = ([float(dict(pair[side]["values"])[metric]) for pair in pairs] for side in (0, 1))
        yield Compared(
            task=task,
            split=split,
            shots=shots,
            control=control,
            metric=metric,
            value_a=fmean(values_a),
            value_b=fmean(values_b),
            num_items=len({row["item"] for row, _ in pairs}),
            difference=paired_difference(values_a, values_b, clusters),
        )
