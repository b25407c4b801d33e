"""Questions with the model's answers: a selection of right and wrong ones from an evaluation's examples.

Examples are JSON lines: task, shots, question, answer, prediction, correct, image (digest of one of the report's images),
and, if available, the metric's value and the demonstrations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mm1.errors import Mm1Error
from mm1.report.album import Album, Picture
from mm1.report.collect import RunStory
from mm1.report.config import ReportConfig
from mm1.report.scores import Comparison, Scored

Mark = Literal["right", "partly right", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One evaluated question with the model's answer."""

    task: str
    shots: int
    question: str
    expected: str
    prediction: str
    mark: Mark
    credit: float | None
    """The task metric's value, if it is between wrong (0) and right (1)."""
    metric: str
    image: str
    """Digest of the image; empty if there was none."""
    demonstrations: str
    """Answers of the demonstrations before the question, in order."""


@dataclass(frozen=True, kw_only=True)
class ExampleView:
    """An example with its image."""

    answer: Example
    picture: Picture | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same question answered by the base and the tuned model."""

    base: Example
    tuned: Example
    picture: Picture | None


def read_answers(story: RunStory, scored: Scored) -> list[Example]:
    """Read all examples of an evaluation; none, with a remark on the page, if they cannot be read."""
    try:
        lines = scored.stored.store.get_bytes(scored.report.examples).decode().splitlines()
        return [_answer(json.loads(line)) for line in lines if line.strip()]
    except (Mm1Error, ValueError, AttributeError) as error:
        story.problems.append(f"examples of evaluation {scored.digest[:12]} cannot be read: {error}")
        return []


def choose(scored: Scored, answers: list[Example], album: Album, config: ReportConfig) -> dict[str, list[ExampleView]]:
    """Choose a few answers per task, right and wrong ones, as far as there are both."""
    chosen: dict[str, list[ExampleView]] = {}
    for task in dict.fromkeys(answer.task for answer in answers):
        mine = _by_shots_in_turn([answer for answer in answers if answer.task == task])
        right = [answer for answer in mine if answer.mark == "right"]
        wrong = [answer for answer in mine if answer.mark != "right"]
        picked = sorted(_alternate(right, wrong, config.examples_per_task), key=lambda answer: answer.mark != "right")
        chosen[task] = [ExampleView(answer=answer, picture=picture(scored, answer.image, album)) for answer in picked]
    return chosen


def pairs(comparison: Comparison, base: list[Example], tuned: list[Example], album: Album, config: ReportConfig) -> list[Pair]:
    """Match questions answered by both base and tuned model; changed verdicts come first."""
    base_answers = {(answer.task, answer.shots, answer.question, answer.image): answer for answer in base}
    matches = [
        (before, answer)
        for answer in tuned
        if (before := base_answers.get((answer.task, answer.shots, answer.question, answer.image)))
    ]
    matches.sort(key=lambda pair: (not pair[1].task.startswith("instruct"), pair[0].mark == pair[1].mark))
    return [
        Pair(base=before, tuned=answer, picture=picture(comparison.tuned, answer.image, album))
        for before, answer in matches[: config.examples_per_task]
    ]


def picture(scored: Scored, digest: str, album: Album) -> Picture | None:
    """Load the image of an example; None if it has none."""
    if not digest:
        return None
    ref = next((ref for ref in scored.report.images.values() if ref.sha256 == digest), None)
    if ref is None:
        return Picture(note="image not in the report")
    try:
        return album.picture(scored.stored.store.get_bytes(ref))
    except Mm1Error:
        return Picture(note="image not in the store")


def _answer(line: dict[str, Any]) -> Example:
    expected = line.get("answer", "")
    value = line.get("value", line.get("correct"))
    credit = float(value) if isinstance(value, int | float) and 0 < value < 1 else None
    demonstrations = [str(item.get("answer", "")) for item in line.get("demonstrations") or [] if isinstance(item, dict)]
    return Example(
        task=str(line.get("task", "")),
        shots=int(line.get("shots") or 0),
        question=str(line.get("question") or ""),
        expected=" / ".join(map(str, dict.fromkeys(expected))) if isinstance(expected, list) else str(expected),
        prediction=str(line.get("prediction") or ""),
        mark=_mark(bool(line.get("correct")), credit),
        credit=credit,
        metric=str(line.get("metric") or "credit"),
        image=str(line.get("image") or ""),
        demonstrations=", ".join(demonstrations),
    )


def _mark(correct: bool, credit: float | None) -> Mark:
    """Judge an answer: one with partial credit is not right, however much of it the report's threshold asks for."""
    if credit is not None:
        return "partly right"
    return "right" if correct else "wrong"


def _by_shots_in_turn(answers: list[Example]) -> list[Example]:
    """Alternate between few-shot and many-shot answers, otherwise preserving their order."""
    seen: Counter[int] = Counter()
    rounds = []
    for answer in answers:
        rounds.append((seen[answer.shots], answer))
        seen[answer.shots] += 1
    return [answer for _, answer in sorted(rounds, key=lambda pair: pair[0])]


def _alternate(right: list[Example], wrong: list[Example], count: int) -> Iterator[Example]:
    """Select half right and half wrong answers; a shortage of one is filled with the other."""
    take_wrong = min(len(wrong), max(count // 2, count - len(right)))
    yield from right[: count - take_wrong]
    yield from wrong[:take_wrong]
