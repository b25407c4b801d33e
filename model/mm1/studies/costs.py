"""Cost of the levels of a study: tokens and steps from the checkpoints, time and FLOPs from run records. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mm1.manifests import Digest, Record
from mm1.studies.cells import StudyData, TrainedCell
from mm1.studies.run_records import Measured


class Cost(Record):
    """Cost of a cell of a level, mean over its seeds; shared stages, such as the text base, do not count."""

    steps: float
    tokens: float
    images: float
    parameters: int
    seconds: float | None = None
    """Time of the trainings; None: no run record of all of them."""
    flops: float | None = None
    """Floating-point operations of the trainings, if they were recorded."""
    device: str = ""
    """GPU or processor of the first training."""


def level_cost(data: StudyData, level: str, measured: Mapping[Digest, Measured]) -> Cost | None:
    """Average the cost of the cells of a level; None if none was trained.

    Args:
        data: the study.
        level: a level.
        measured: digest of a checkpoint -> what its training took.
    """
    cells = [_cell_cost(cell, measured) for cell in data.of_level(level)]
    if not cells:
        return None
    return Cost(
        steps=_mean(cost.steps for cost in cells) or 0.0,
        tokens=_mean(cost.tokens for cost in cells) or 0.0,
        images=_mean(cost.images for cost in cells) or 0.0,
        parameters=cells[0].parameters,
        seconds=_mean(cost.seconds for cost in cells),
        flops=_mean(cost.flops for cost in cells),
        device=cells[0].device,
    )


def _cell_cost(cell: TrainedCell, measured: Mapping[Digest, Measured]) -> Cost:
    checkpoints = [checkpoint for _, checkpoint in cell.trainings]
    trainings = [measured.get(digest, Measured()) for digest, _ in cell.trainings]
    return Cost(
        steps=sum(checkpoint.step for checkpoint in checkpoints),
        tokens=sum(checkpoint.tokens_seen for checkpoint in checkpoints),
        images=sum(checkpoint.images_seen for checkpoint in checkpoints),
        parameters=cell.checkpoint.num_parameters,
        seconds=_sum(each.seconds for each in trainings),
        flops=_sum(each.flops for each in trainings),
        device=trainings[0].device,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    total = _sum(known)
    return None if total is None else total / len(known)
