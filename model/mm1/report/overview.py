"""The head of the page: what was run, how it ended, and the figures that one wants first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mm1.errors import Ending, Outcome
from mm1.lineage.records import TaskRecord
from mm1.lineage.text import duration
from mm1.manifests import GateDecision
from mm1.report.collect import RunStory
from mm1.report.curves import Stage
from mm1.report.scores import Comparison, Gap, Row, Scored


@dataclass(frozen=True, kw_only=True)
class Card:
    """A key figure."""

    value: str
    name: str
    note: str = ""
    tone: str = ""
    """good, bad or nothing."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A task that failed or did not end, and what to do about it."""

    task: str
    ending: Ending | None
    """None for a task that did not end."""
    attempts: int
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A task's place in the run's time."""

    record: TaskRecord
    left: float
    """Percent of the run's time before it."""
    width: float
    """Percent of the run's time in it."""


REMEDIES = {
    Outcome.CONFIGURATION: "An input or a recipe is wrong: fix what the message names, then run the same command again.",
    Outcome.DATA: "Data are missing or damaged: repair or replace the file that the message names, then run again.",
    Outcome.DIVERGED: "Training left its course: a smaller learning rate or more warm-up usually helps.",
    Outcome.OUT_OF_MEMORY: "Choose a smaller micro-batch (the global batch stays the same) and run again.",
    Outcome.NETWORK: "This may pass: run the same command again; finished tasks come from the cache.",
    Outcome.HARDWARE: "Run again on another machine; finished tasks come from the cache.",
    Outcome.CHECKPOINT: "A checkpoint does not match its digest: run again, the one before it is used.",
    Outcome.PREEMPTED: "It was stopped and saved what it had: run the same command again to continue.",
}


def failures(story: RunStory) -> list[Failure]:
    """Failed tasks, and those that did not end."""
    return [
        Failure(task=record.task, ending=record.ending, attempts=record.attempts, remedy=_remedy(record.ending))
        for record in story.tasks
        if record.status in ("failed", "unfinished")
    ]


def _remedy(ending: Ending | None) -> str:
    if ending is None:
        return "The process is still running, or was killed; run again to continue."
    return REMEDIES.get(ending.outcome, "This is a fault of the program: its log has the trace.")


def timeline(story: RunStory) -> list[Bar]:
    """Each task's start and length within the run."""
    timed = [record for record in story.tasks if record.started]
    starts = [record.started.timestamp() for record in timed if record.started]
    if not starts:
        return [Bar(record=record, left=0, width=0) for record in story.tasks]
    begin = min(starts)
    span = max(start + (record.seconds or 0) for start, record in zip(starts, timed, strict=True)) - begin or 1.0
    bars = []
    for record in story.tasks:
        left = 100 * ((record.started.timestamp() if record.started else begin) - begin) / span
        bars.append(Bar(record=record, left=round(left, 2), width=round(100 * (record.seconds or 0) / span, 2)))
    return bars


def elapsed(story: RunStory) -> float | None:
    """Seconds from the first start to the last end."""
    starts = [record.started for record in story.tasks if record.started]
    ends = [record.ended for record in story.tasks if record.ended]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else None


def began(story: RunStory) -> datetime | None:
    """When the run began."""
    return min((record.started for record in story.tasks if record.started), default=None)


def cards(story: RunStory, trained: list[Stage], reports: list[Scored], versus: Comparison | None) -> list[Card]:
    """Key figures, as far as the run has them."""
    found = [*_score_cards(reports), *_tuning_card(versus)]
    if trained:
        main = max(trained, key=lambda stage: stage.checkpoint.images_seen)
        checkpoint = main.checkpoint
        found.append(Card(value=short(checkpoint.num_parameters), name="parameters", note=checkpoint.recipe))
        seen = sum(stage.checkpoint.tokens_seen for stage in trained)
        images = sum(stage.checkpoint.images_seen for stage in trained)
        found.append(Card(value=short(seen), name="tokens seen", note=f"and {short(images)} images"))
    if (seconds := elapsed(story)) is not None:
        hits = sum(record.cache_hit for record in story.tasks)
        note = f"{len(story.tasks)} tasks" + (f", {hits} from the cache" if hits else "")
        found.append(Card(value=duration(seconds), name="run time", note=note))
    return found


def _score_cards(reports: list[Scored]) -> list[Card]:
    """Seeing (captions), learning from examples (the task that gains most), both from the base model where there is one."""
    if not reports:
        return []
    base, found = reports[0], []
    captions = next((row for row in base.rows if row.task == "captions" and row.bounded), None)
    if captions:
        cell = captions.cells[min(captions.cells)]
        note = f"{captions.metric.replace('_', ' ')}, {min(captions.cells)} shots"
        if cell.shuffled:
            note += f"; wrong image {cell.shuffled.value:.2f}"
        found.append(Card(value=f"{cell.score.value:.2f}", name="captions", note=note))
    gains = [row for row in base.rows if row.bounded and _gain(row) > 0]
    if gains:
        best = max(gains, key=_gain)
        first, last = min(best.cells), best_shots(best)
        value = f"{best.cells[first].score.value:.2f} → {best.cells[last].score.value:.2f}"
        found.append(Card(value=value, name=best.task.replace("_", " "), note=f"{first} → {last} shots"))
    gap = min(base.gaps, key=lambda gap: gap.shots, default=None)
    if gap:
        found.append(_gap_card(gap))
    return found


def _gap_card(gap: Gap) -> Card:
    return Card(
        value=f"{gap.unseen.value:.2f}", name="new combinations", note=f"{gap.task}; {gap.seen.value:.2f} on known ones"
    )


def _tuning_card(versus: Comparison | None) -> list[Card]:
    change = next((change for change in versus.changes if change.after.task.startswith("instruct")), None) if versus else None
    if change is None:
        return []
    return [
        Card(
            value=f"{change.before.value:.2f} → {change.after.value:.2f}",
            name="instructions",
            note="base → tuned",
        )
    ]


def _gain(row: Row) -> float:
    return row.cells[best_shots(row)].score.value - row.cells[min(row.cells)].score.value


def best_shots(row: Row) -> int:
    """The number of demonstrations with the best score."""
    return max(row.cells, key=lambda shots: (row.cells[shots].score.value, -shots))


def verdict(story: RunStory, status: str) -> tuple[str, str]:
    """One word on the run's end and its tone: failed, passed the gate, refused by the gate, done."""
    if failures(story) or status in ("Failed", "Error"):
        return "failed", "bad"
    decisions = [decision for _, decision in story.of(GateDecision)]
    if decisions:
        return ("gate passed", "good") if all(item.decision == "pass" for item in decisions) else ("gate refused", "bad")
    return ("done", "good") if story.tasks else ("nothing ran", "bad")


def short(value: float) -> str:
    """A count as a person says it: 502.7k, 1.43M, 3.1B."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, a true minus sign included."""
    return f"{value:+.{digits}f}".replace("-", "−")
