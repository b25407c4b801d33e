"""Manifests of studies: what is to be trained, and what came out."""

from __future__ import annotations

from operator import not_
from typing import Any, Literal

from pydantic import Field

from mm1.manifests.base import Digest, Manifest, Record
from mm1.store.base import BlobRef


class PlannedStudy(Record):
    """A study as it was before the run."""

    name: str
    content: dict[str, Any]
    """The whole file: factor, levels, seeds, scores, and claims with their smallest effects of interest."""
    levels: tuple[str, ...] = Field((), exclude_if=not_)
    """Levels in the order of the file, which the JSON of a manifest does not keep."""


class StageRun(Record):
    """A stage of a chain with its inputs, without those that come from earlier stages."""

    stage: str
    step: str
    inputs: dict[str, str]


class CellUse(Record):
    """A study and level that a cell belongs to."""

    study: str
    level: str


class Cell(Record):
    """A chain of one level and one seed. Equal cells of several studies are one."""

    name: str
    seed: int
    stages: tuple[StageRun, ...]
    """Stages in order, the evaluation last."""
    uses: tuple[CellUse, ...]


class StudyPlan(Manifest):
    """All cells of some studies."""

    kind: Literal["StudyPlan"] = "StudyPlan"
    studies: tuple[PlannedStudy, ...]
    cells: tuple[Cell, ...]
    shared: tuple[Cell, ...] = ()
    """Beginnings of chains that several cells have in common, to be trained first; without an evaluation."""


class StudyReport(Manifest):
    """The verdicts of some studies."""

    kind: Literal["StudyReport"] = "StudyReport"
    plan: Digest
    failed: tuple[str, ...] = Field((), exclude_if=not_)
    """Cells without a result."""
    results: BlobRef
    """studies.json: effects, errors and verdicts of all claims."""
    page: BlobRef
    """The report, HTML."""
