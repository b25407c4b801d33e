"""Few-shot scores: from evaluation reports to tables, small plots, and the comparison of base and tuned model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from markupsafe import Markup

from mm1.manifests import Checkpoint, EvalReport, Score
from mm1.report.charts import shots_figure
from mm1.report.collect import Found, RunStory

HELD_OUT = "_heldout"
PREFERRED = ("accuracy", "content_f1", "f1", "exact_match")
STAGES = {"text": "text base", "pretrain": "pre-trained model", "sft": "instruction-tuned model", "imported": "imported model"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure with its control."""

    score: Score
    shuffled: Score | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task and metric over all numbers of demonstrations."""

    task: str
    metric: str
    split: str
    cells: dict[int, Cell]

    @property
    def chance(self) -> float | None:
        """What guessing gives."""
        return next((cell.score.chance for cell in self.cells.values() if cell.score.chance is not None), None)

    @property
    def bounded(self) -> bool:
        """Whether the metric lies between 0 and 1 (CIDEr does not), so that a bar can stand for it."""
        return "cider" not in self.metric.lower() and all(0 <= cell.score.value <= 1 for cell in self.cells.values())


@dataclass(frozen=True, kw_only=True)
class ScorePanel:
    """One small plot of score against demonstrations."""

    task: str
    metric: str
    figure: Markup


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A task on combinations that training had, and on those that it never had."""

    task: str
    metric: str
    shots: int
    seen: Score
    unseen: Score

    @property
    def errors(self) -> float:
        """Standard errors between the two."""
        return distance(self.unseen, self.seen)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One evaluation report as the page shows it."""

    title: str
    task: str
    digest: str
    report: EvalReport
    found: Found
    checkpoint: Checkpoint | None
    shots: list[int]
    rows: list[Row]
    gaps: list[Gap]
    panels: list[ScorePanel]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure before and after tuning."""

    before: Score
    after: Score

    @property
    def errors(self) -> float:
        """Standard errors that the later one lies above the earlier."""
        return distance(self.after, self.before)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Base model against tuned model on the tasks that both were asked."""

    base: Scored
    tuned: Scored
    changes: list[Change] = field(default_factory=list)


def distance(one: Score, other: Score) -> float:
    """How many standard errors ``one`` lies above ``other`` (of the difference of independent means)."""
    spread = math.hypot(one.stderr, other.stderr)
    if spread == 0:
        return 0.0 if one.value == other.value else math.copysign(math.inf, one.value - other.value)
    return (one.value - other.value) / spread


def evaluations(story: RunStory) -> list[Scored]:
    """All evaluation reports of the run, base models before tuned ones."""
    order = {stage: place for place, stage in enumerate(STAGES)}
    reports = [_scored(story, found, report) for found, report in story.of(EvalReport)]
    return sorted(reports, key=lambda scored: order.get(scored.checkpoint.stage if scored.checkpoint else "", len(order)))


def comparison(story: RunStory, reports: list[Scored]) -> Comparison | None:
    """The tuned model beside the model that it was tuned from, where both were evaluated."""
    for tuned in reports:
        if tuned.checkpoint is None or tuned.checkpoint.stage != "sft":
            continue
        for base in reports:
            if base is not tuned and base.report.checkpoint in _line(story, tuned.report.checkpoint):
                changes = _changes(base.report, tuned.report)
                return Comparison(base=base, tuned=tuned, changes=changes) if changes else None
    return None


def _line(story: RunStory, digest: str) -> set[str]:
    """Digests of everything that a checkpoint was made from."""
    seen: set[str] = set()
    queue = [digest]
    while queue:
        found = story.found.get(queue.pop())
        parents = set(found.manifest.parents) - seen if found and found.manifest else set()
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


def _scored(story: RunStory, found: Found, report: EvalReport) -> Scored:
    checkpoint = story.get(report.checkpoint, Checkpoint)
    rows = _rows(report)
    stage = STAGES.get(checkpoint.stage, checkpoint.stage) if checkpoint else f"checkpoint {report.checkpoint[:8]}"
    return Scored(
        title=stage[:1].upper() + stage[1:],
        task=found.producer,
        digest=found.digest,
        report=report,
        found=found,
        checkpoint=checkpoint,
        shots=sorted({score.shots for score in report.scores}),
        rows=[row for row in rows if not row.task.endswith(HELD_OUT)],
        gaps=_gaps(report, rows),
        panels=_panels(rows, found.digest),
    )


def _rows(report: EvalReport) -> list[Row]:
    shuffled = {_place(score): score for score in report.scores if score.control == "shuffled"}
    rows: dict[tuple[str, str, str], dict[int, Cell]] = {}
    for score in report.scores:
        if score.control == "none":
            cells = rows.setdefault((score.task, score.metric, score.split), {})
            cells[score.shots] = Cell(score=score, shuffled=shuffled.get(_place(score)))
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    found = [Row(task=task, metric=metric, split=split, cells=cells) for (task, metric, split), cells in rows.items()]
    return sorted(found, key=lambda row: tasks.index(row.task))


def _place(score: Score) -> tuple[str, str, str, int]:
    return score.task, score.split, score.metric, score.shots


def _gaps(report: EvalReport, rows: list[Row]) -> list[Gap]:
    gaps = []
    for row in rows:
        here = (row.task, row.metric, row.split)
        twin = next((other for other in rows if (other.task + HELD_OUT, other.metric, other.split) == here), None)
        for shots, cell in row.cells.items():
            if twin and shots in twin.cells:
                seen = twin.cells[shots].score
                gaps.append(Gap(task=twin.task, metric=row.metric, shots=shots, seen=seen, unseen=cell.score))
    return gaps


def _panels(rows: list[Row], digest: str) -> list[ScorePanel]:
    """A plot for each task that was asked with several numbers of demonstrations, in its main metric."""
    best: dict[str, Row] = {}
    for row in rows:
        rank = PREFERRED.index(row.metric) if row.metric in PREFERRED else len(PREFERRED)
        former = best.get(row.task)
        if row.bounded and len(row.cells) > 1 and (former is None or rank < _rank(former)):
            best[row.task] = row
    return [ScorePanel(task=row.task, metric=row.metric, figure=_figure(row, digest)) for row in best.values()]


def _rank(row: Row) -> int:
    return PREFERRED.index(row.metric) if row.metric in PREFERRED else len(PREFERRED)


def _figure(row: Row, digest: str) -> Markup:
    shots = sorted(row.cells)
    return shots_figure(
        shots,
        [row.cells[shot].score.value for shot in shots],
        [row.cells[shot].score.stderr for shot in shots],
        shuffled={shot: control.value for shot in shots if (control := row.cells[shot].shuffled)},
        chance=row.chance,
        name=f"{row.task} {digest[:6]}",
    )
