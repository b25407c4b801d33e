"""Two models' answers to the same items, compared pair by pair. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mm1.errors import ConfigurationError
from mm1.evals.statistics import Difference, paired_difference, smallest_detectable_effect

if TYPE_CHECKING:
    import pyarrow as pa

ROUND = ("task", "split", "shots", "control")
"""Columns that name a round of an evaluation; draw and item name a row of it."""
SEEN = ("prompt", "images", "references", "choices")
"""Columns that are the same for every model."""
MAX_NAMES = 5

Row = Mapping[str, Any]
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
    smallest_effect: float
    """The smallest true difference that as many items detect, with 95 % confidence and 80 % power."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations."""

    results: tuple[Compared, ...]
    only_a: tuple[Key, ...]
    """Rounds that only the first one has."""
    only_b: tuple[Key, ...]
    pairs: dict[Key, list[tuple[Row, Row]]]
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


def _rounds(table: pa.Table) -> dict[Key, dict[tuple[int, str], Row]]:
    rounds: dict[Key, dict[tuple[int, str], Row]] = defaultdict(dict)
    for row in table.to_pylist():
        task, split, shots, control = (row[name] for name in ROUND)
        rounds[task, split, shots, control][row["draw"], row["item"]] = row
    return rounds


def _pairs(key: Key, rows_a: Mapping[tuple[int, str], Row], rows_b: Mapping[tuple[int, str], Row]) -> list[tuple[Row, Row]]:
    for rows, others, which in ((rows_a, rows_b, "first"), (rows_b, rows_a, "second")):
        if missing := [item for item in rows if item not in others]:
            raise ConfigurationError(
                f"{_label(key)}: {len(missing)} item(s) are only in the {which} evaluation: {_listed(missing)}; "
                "evaluate both with the same --limit, --seed and --draws"
            )
    for name in SEEN:
        if differing := [item for item, row in rows_a.items() if name in row and row[name] != rows_b[item].get(name)]:
            raise ConfigurationError(
                f"{_label(key)}: the models got different input for {len(differing)} item(s), {name} of {_listed(differing)}; "
                "evaluate both with the same files, templates, style and demonstrations"
            )
    return [(row, rows_b[item]) for item, row in rows_a.items()]


def _listed(items: list[tuple[int, str]]) -> str:
    names = list(dict.fromkeys(item for _, item in items))
    rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + rest


def _label(key: Key) -> str:
    return f"{key[0]} of {key[1]}, {key[2]} shots" + ("" if key[3] == "none" else f", {key[3]}")


def _results(key: Key, pairs: list[tuple[Row, Row]]) -> Iterator[Compared]:
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
            smallest_effect=smallest_detectable_effect(values_a, values_b, clusters),
        )
