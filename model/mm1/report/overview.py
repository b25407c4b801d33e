"""The top of the page: the run's outcome, failures, timeline and key figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mm1.errors import Ending, Outcome
from mm1.lineage.records import TaskRecord
from mm1.lineage.text import count, duration
from mm1.manifests import GateDecision
from mm1.report.collect import RunStory
from mm1.report.curves import Stage
from mm1.report.scores import CLEAR, Change, Comparison, Gap, Row, Scored


@dataclass(frozen=True, kw_only=True)
class Card:
    """A key figure."""

    value: str
    name: str
    note: str = ""
    tone: str = ""
    """good, bad or empty."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A task that failed or did not finish, and the remedy."""

    task: str
    ending: Ending | None
    """None for a task that did not finish."""
    attempts: int
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A task's bar in the timeline."""

    record: TaskRecord
    left: float
    """Start of the bar, in percent of the run's duration."""
    width: float
    """Length of the bar, in percent of the run's duration."""


REMEDIES = {
    Outcome.CONFIGURATION: "An input or a recipe is invalid: fix it as the message says, then run the same command again.",
    Outcome.DATA: "Data are missing or damaged: restore or replace the file named in the message, then run again.",
    Outcome.DIVERGED: "Training diverged: a lower learning rate or a longer warm-up usually helps.",
    Outcome.OUT_OF_MEMORY: "Set a smaller micro-batch (the global batch stays the same) and run again.",
    Outcome.NETWORK: "This may be transient: run the same command again; finished tasks are cached.",
    Outcome.HARDWARE: "Run again on another machine; finished tasks are cached.",
    Outcome.CHECKPOINT: "A checkpoint does not match its digest: run again to use the previous one.",
    Outcome.BUDGET: "The device hours are used up and the state is saved: run the same command with a larger budget to resume.",
    Outcome.PREEMPTED: "The task was stopped and saved its state: run the same command again to resume.",
}


def failures(story: RunStory) -> list[Failure]:
    """List the tasks that failed, were stopped or are unfinished."""
    return [
        Failure(task=record.task, ending=record.ending, attempts=record.attempts, remedy=_remedy(record.ending))
        for record in story.tasks
        if record.status in ("failed", "stopped", "unfinished")
    ]


def _remedy(ending: Ending | None) -> str:
    if ending is None:
        return "The process is still running, or was killed; run the same command again to resume."
    return REMEDIES.get(ending.outcome, "This is a bug: see the traceback in the task's log.")


def timeline(story: RunStory) -> list[Bar]:
    """Start and duration of each task within the run."""
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
    """Return the seconds from the first start to the last end."""
    starts = [record.started for record in story.tasks if record.started]
    ends = [record.ended for record in story.tasks if record.ended]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else None


def started(story: RunStory) -> datetime | None:
    """Start time of the run."""
    return min((record.started for record in story.tasks if record.started), default=None)


def cards(story: RunStory, trained: list[Stage], reports: list[Scored], versus: Comparison | None) -> list[Card]:
    """List the key figures of the run, as far as available."""
    key_figures = [*_score_cards(reports), *_tuning_card(versus)]
    if trained:
        main = max(trained, key=lambda stage: stage.checkpoint.images_seen)
        checkpoint = main.checkpoint
        key_figures.append(Card(value=short(checkpoint.num_parameters), name="parameters", note=checkpoint.recipe))
        seen = sum(stage.checkpoint.tokens_seen for stage in trained)
        images = sum(stage.checkpoint.images_seen for stage in trained)
        key_figures.append(Card(value=short(seen), name="tokens seen", note=f"and {short(images)} images"))
    if (seconds := elapsed(story)) is not None:
        hits = sum(record.cache_hit for record in story.tasks)
        note = count(len(story.tasks), "task") + (f", {hits} from the cache" if hits else "")
        key_figures.append(Card(value=duration(seconds), name="run time", note=note))
    return key_figures


def _score_cards(reports: list[Scored]) -> list[Card]:
    """Create the cards for captions and for the task with the largest few-shot gain, both of the base model if there is one."""
    if not reports:
        return []
    base, score_cards = reports[0], []
    captions = next((row for row in base.rows if row.task == "captions" and row.bounded), None)
    if captions:
        cell = captions.cells[min(captions.cells)]
        note = f"{captions.metric.replace('_', ' ')}, {min(captions.cells)} shots"
        if cell.shuffled:
            note += f"; wrong image {cell.shuffled.value:.2f}"
        score_cards.append(Card(value=f"{cell.score.value:.2f}", name="captions", note=note))
    gains = [row for row in base.rows if row.bounded and _gain(row) > 0]
    if gains:
        best = max(gains, key=_gain)
        first, last = min(best.cells), best_shots(best)
        value = f"{best.cells[first].score.value:.2f} → {best.cells[last].score.value:.2f}"
        score_cards.append(Card(value=value, name=best.task.replace("_", " "), note=f"{first} → {last} shots"))
    gap = min(base.gaps, key=lambda gap: gap.shots, default=None)
    if gap:
        score_cards.append(_gap_card(gap))
    return score_cards


def _gap_card(gap: Gap) -> Card:
    return Card(value=f"{gap.unseen.value:.2f}", name="new combinations", note=f"{gap.task}; {gap.seen.value:.2f} on seen ones")


def _tuning_card(versus: Comparison | None) -> list[Card]:
    if versus is None:
        return []
    instructions = [change for change in versus.changes if change.after.task.startswith("instruct")]
    tuning = [_change_card(change, "instructions", "good") for change in instructions[:1]]
    kept = len(versus.changes) - len(instructions)
    if versus.losses:
        lost = versus.losses[0]
        tuning.append(_change_card(lost, f"{lost.after.task.replace('_', ' ')}, lost in tuning", "bad"))
    elif kept:
        tuning.append(Card(value=f"{kept} of {kept}", name="kept in tuning", note="scores not clearly worse", tone="good"))
    return tuning


def _change_card(change: Change, name: str, tone: str) -> Card:
    note = f"base → tuned, {change.after.metric.replace('_', ' ')}, {change.after.shots} shots"
    tone = tone if abs(change.errors) > CLEAR else ""
    return Card(value=f"{change.before.value:.2f} → {change.after.value:.2f}", name=name, note=note, tone=tone)


def _gain(row: Row) -> float:
    return row.cells[best_shots(row)].score.value - row.cells[min(row.cells)].score.value


def best_shots(row: Row) -> int:
    """Return the number of demonstrations with the best score."""
    return max(row.cells, key=lambda shots: (row.cells[shots].score.value, -shots))


def verdict(story: RunStory, status: str) -> tuple[str, str]:
    """Return the run's outcome in a word or two, and its tone (good or bad)."""
    if failures(story) or status in ("Failed", "Error"):
        return "failed", "bad"
    decisions = [decision for _, decision in story.of(GateDecision)]
    if decisions:
        return ("gate passed", "good") if all(item.decision == "pass" for item in decisions) else ("gate failed", "bad")
    if any(record.outputs.get("decision") == "wait" for record in story.tasks):
        return "waits", "good"
    return ("done", "good") if story.tasks else ("nothing ran", "bad")


def short(value: float) -> str:
    """Abbreviate a count: 502.7k, 1.43M, 3.1B."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def signed(value: float, digits: int = 2) -> str:
    """Format a difference with its sign, using a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")
