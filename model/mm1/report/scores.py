"""Few-shot scores: tables and plots of evaluation reports, and the comparison of base and tuned model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from mm1.lineage.text import split_labels
from mm1.manifests import Checkpoint, EvalReport, Score
from mm1.report.beside_paper import BesidePaper, beside_paper
from mm1.report.charts import shots_figure
from mm1.report.collect import RunStory, StoredManifest

HELD_OUT = "_heldout"
CLEAR = 3.0
"""Standard errors from which a difference is called a gain or a loss."""
PREFERRED = ("accuracy", "content_f1", "f1", "exact_match")
STAGES = {
    "text": "text base",
    "vision": "vision tower",
    "pretrain": "pre-trained model",
    "sft": "instruction-tuned model",
    "imported": "imported model",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score with its control."""

    score: Score
    shuffled: Score | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task and metric over all numbers of demonstrations."""

    task: str
    label: str
    """The task, with its split if there are several of it."""
    metric: str
    split: str
    cells: dict[int, Cell]

    @property
    def chance(self) -> float | None:
        """Score of random guessing."""
        return next((cell.score.chance for cell in self.cells.values() if cell.score.chance is not None), None)

    @property
    def bounded(self) -> bool:
        """Whether the metric is between 0 and 1 (CIDEr is not), so it can be drawn as a bar."""
        return "cider" not in self.metric.lower() and all(0 <= cell.score.value <= 1 for cell in self.cells.values())


@dataclass(frozen=True, kw_only=True)
class ScorePanel:
    """A small plot of score against number of demonstrations."""

    task: str
    metric: str
    figure: Markup


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Scores of a task on attribute combinations seen and not seen in training."""

    task: str
    metric: str
    shots: int
    seen: Score
    unseen: Score

    @property
    def errors(self) -> float:
        """Difference in standard errors."""
        return distance(self.unseen, self.seen)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores as a table and as plots."""

    shots: list[int]
    rows: list[Row]
    gaps: list[Gap]
    panels: list[ScorePanel]
    paper: list[BesidePaper]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An evaluation report for the templates."""

    title: str
    task: str
    digest: str
    report: EvalReport
    stored: StoredManifest
    checkpoint: Checkpoint | None
    table: ScoreTable

    @property
    def rows(self) -> list[Row]:
        """Rows of the table."""
        return self.table.rows

    @property
    def gaps(self) -> list[Gap]:
        """Scores on attribute combinations seen and not seen in training."""
        return self.table.gaps


@dataclass(frozen=True, kw_only=True)
class Change:
    """A score before and after tuning."""

    before: Score
    after: Score

    @property
    def errors(self) -> float:
        """Difference (after minus before) in standard errors."""
        return distance(self.after, self.before)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Base and tuned model on the tasks that both were evaluated on."""

    base: Scored
    tuned: Scored
    changes: list[Change] = field(default_factory=list)

    @property
    def losses(self) -> list[Change]:
        """Scores that tuning made worse by more than the items can explain, the largest loss first."""
        lost = [change for change in self.changes if change.errors < -CLEAR]
        return sorted(lost, key=lambda change: change.errors)


def distance(score: Score, baseline: Score) -> float:
    """Compute ``score`` minus ``baseline`` in standard errors of the difference of independent means."""
    spread = math.hypot(score.stderr, baseline.stderr)
    if spread == 0:
        return 0.0 if score.value == baseline.value else math.copysign(math.inf, score.value - baseline.value)
    return (score.value - baseline.value) / spread


def evaluations(story: RunStory) -> list[Scored]:
    """List all evaluation reports of the run, base models before tuned ones."""
    order = {stage: index for index, stage in enumerate(STAGES)}
    reports = [_scored(story, stored, report) for stored, report in story.of(EvalReport)]
    return sorted(reports, key=lambda scored: order.get(scored.checkpoint.stage if scored.checkpoint else "", len(order)))


def comparison(story: RunStory, reports: list[Scored]) -> Comparison | None:
    """Compare the tuned model with its base model, if both were evaluated."""
    for tuned in reports:
        if tuned.checkpoint is None or tuned.checkpoint.stage != "sft":
            continue
        for base in reports:
            if base is not tuned and base.report.checkpoint in _ancestor_digests(story, tuned.report.checkpoint):
                changes = _changes(base.report, tuned.report)
                return Comparison(base=base, tuned=tuned, changes=changes) if changes else None
    return None


def _ancestor_digests(story: RunStory, digest: str) -> set[str]:
    """Collect the digests of all ancestors of a checkpoint."""
    seen: set[str] = set()
    queue = [digest]
    while queue:
        stored = story.manifests.get(queue.pop())
        parents = set(stored.manifest.parents) - seen if stored and stored.manifest else set()
        seen |= parents
        queue.extend(parents)
    return seen


def _changes(base: EvalReport, tuned: EvalReport) -> list[Change]:
    def key(score: Score) -> tuple[str, str, str, int]:
        return score.task, score.split, score.metric, score.shots

    before = {key(score): score for score in base.scores if score.control == "none"}
    later = [score for score in tuned.scores if score.control == "none" and key(score) in before]
    pairs = [Change(before=before[key(score)], after=score) for score in later]
    return sorted(pairs, key=lambda pair: (not pair.after.task.startswith("instruct"), pair.after.task, pair.after.shots))


def _scored(story: RunStory, stored: StoredManifest, report: EvalReport) -> Scored:
    checkpoint = story.get(report.checkpoint, Checkpoint)
    stage = STAGES.get(checkpoint.stage, checkpoint.stage) if checkpoint else f"checkpoint {report.checkpoint[:8]}"
    return Scored(
        title=stage[:1].upper() + stage[1:],
        task=stored.producer,
        digest=stored.digest,
        report=report,
        stored=stored,
        checkpoint=checkpoint,
        table=score_table(report.scores, stored.digest),
    )


def score_table(scores: Sequence[Score], name: str) -> ScoreTable:
    """Arrange scores by task, metric and shots.

    Args:
        scores: all scores of an evaluation.
        name: of the evaluation, for the plots.
    """
    rows = _rows(scores)
    return ScoreTable(
        shots=sorted({score.shots for score in scores}),
        rows=[row for row in rows if not row.task.endswith(HELD_OUT)],
        gaps=_gaps(rows),
        panels=_panels(rows, name),
        paper=beside_paper(scores),
    )


def _rows(scores: Sequence[Score]) -> list[Row]:
    shuffled = {_identity(score): score for score in scores if score.control == "shuffled"}
    rows: dict[tuple[str, str, str], dict[int, Cell]] = {}
    for score in scores:
        if score.control == "none":
            cells = rows.setdefault((score.task, score.metric, score.split), {})
            cells[score.shots] = Cell(score=score, shuffled=shuffled.get(_identity(score)))
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    labels = split_labels((task, split) for task, _, split in rows)
    table = [
        Row(task=task, label=labels[task, split], metric=metric, split=split, cells=cells)
        for (task, metric, split), cells in rows.items()
    ]
    return sorted(table, key=lambda row: tasks.index(row.task))


def _identity(score: Score) -> tuple[str, str, str, int]:
    return score.task, score.split, score.metric, score.shots


def _gaps(rows: list[Row]) -> list[Gap]:
    gaps = []
    for row in rows:
        key = (row.task, row.metric, row.split)
        twin = next((other for other in rows if (other.task + HELD_OUT, other.metric, other.split) == key), None)
        for shots, cell in row.cells.items():
            if twin and shots in twin.cells:
                seen = twin.cells[shots].score
                gaps.append(Gap(task=twin.task, metric=row.metric, shots=shots, seen=seen, unseen=cell.score))
    return gaps


def _panels(rows: list[Row], digest: str) -> list[ScorePanel]:
    """Draw one plot per task and split evaluated with several numbers of demonstrations, in its main metric."""
    best: dict[str, Row] = {}
    for row in rows:
        previous = best.get(row.label)
        if len(row.cells) > 1 and (previous is None or _rank(row) < _rank(previous)):
            best[row.label] = row
    return [ScorePanel(task=row.label, metric=row.metric, figure=_figure(row, digest)) for row in best.values()]


def _rank(row: Row) -> int:
    return PREFERRED.index(row.metric) if row.metric in PREFERRED else len(PREFERRED)


def _figure(row: Row, digest: str) -> Markup:
    shots = sorted(row.cells)
    return shots_figure(
        shots,
        [row.cells[shot].score.value for shot in shots],
        [row.cells[shot].score.stderr for shot in shots],
        shuffled={shot: control.value for shot in shots if (control := row.cells[shot].shuffled)},
        top=1.0 if row.bounded else max(cell.score.value for cell in row.cells.values()) or 1.0,
        chance=row.chance,
        name=f"{row.label} {digest[:6]}",
    )
