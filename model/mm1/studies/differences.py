"""Items that two levels of a claim answered differently, with the prompt and both answers. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mm1.evals.pairing import pair_rows
from mm1.manifests import Record
from mm1.studies.cells import StudyData, TrainedCell, rows_of
from mm1.studies.config import TERM, Claim

ITEMS_PER_CLAIM = 4
Row = Mapping[str, Any]


class DifferingItem(Record):
    """An item that two levels answered differently."""

    says: str
    """The claim."""
    task: str
    shots: int
    metric: str
    item: str
    seed: int
    prompt: str
    """Everything that the models saw; images as <image>."""
    images: tuple[str, ...]
    """SHA-256 of the images of the prompt, in order."""
    expected: str
    better: str
    """Level that is claimed to be better."""
    than: str
    better_answer: str
    than_answer: str
    better_value: float
    than_value: float


def differing_items(data: StudyData) -> Iterator[DifferingItem]:
    """Choose items of each claim about two levels: those with the largest difference, gains and losses in their proportion."""
    for claim in data.study.claims:
        term = next(filter(None, map(TERM.match, data.study.scores[claim.score].mean)))
        pairs = [data.cells.get((level, data.study.seeds[0])) for level in (claim.better, claim.than)]
        if term["task"] and claim.than_score in ("", claim.score) and pairs[0] and pairs[1]:
            yield from _of_claim(data, claim, term, pairs[0], pairs[1])


def _of_claim(data: StudyData, claim: Claim, term: Any, better: TrainedCell, than: TrainedCell) -> Iterator[DifferingItem]:
    task, shots, metric, control = term["task"], int(term["shots"]), term["metric"], term["control"] or "none"
    tables = [cell.all_answers() for cell in (better, than)]
    if tables[0] is None or tables[1] is None:
        return
    rows = [rows_of(table, task, shots, control).to_pylist() for table in tables if table is not None]
    gaps = [(_value(row, metric) - _value(other, metric), row, other) for row, other in pair_rows(*rows).pairs]
    for _, row, other in _chosen(gaps):
        yield DifferingItem(
            says=claim.says,
            task=task,
            shots=shots,
            metric=metric,
            item=row["item"],
            seed=data.study.seeds[0],
            prompt=row["prompt"],
            images=tuple(row["images"]),
            expected=" / ".join(dict.fromkeys(row["references"])),
            better=claim.better,
            than=claim.than,
            better_answer=row["prediction"],
            than_answer=other["prediction"],
            better_value=_value(row, metric),
            than_value=_value(other, metric),
        )


def _value(row: Row, metric: str) -> float:
    return float(dict(row["values"]).get(metric, 0.0))


def _chosen(gaps: list[tuple[float, Row, Row]]) -> list[tuple[float, Row, Row]]:
    """Choose items: gains and losses in their proportion, at least one of each that there is."""
    gains = sorted((gap for gap in gaps if gap[0] > 0), key=lambda gap: (-gap[0], gap[1]["item"]))
    losses = sorted((gap for gap in gaps if gap[0] < 0), key=lambda gap: (gap[0], gap[1]["item"]))
    share = round(ITEMS_PER_CLAIM * len(gains) / max(1, len(gains) + len(losses)))
    num_gains = min(len(gains), max(share, min(1, len(gains))), ITEMS_PER_CLAIM - min(1, len(losses)))
    return gains[:num_gains] + losses[: ITEMS_PER_CLAIM - num_gains]
