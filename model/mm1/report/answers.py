"""Questions with the model's answers: a choice of right and wrong ones from an evaluation's examples.

Examples are JSON lines: task, shots, question, answer, prediction, correct, image (digest of one of the report's images), and
where they are known the metric's value and the demonstrations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mm1.errors import Mm1Error
from mm1.report.album import Album, Picture
from mm1.report.collect import RunStory
from mm1.report.config import ReportConfig
from mm1.report.scores import Comparison, Scored


@dataclass(frozen=True, kw_only=True)
class AskedItem:
    """One question as it was asked, and what came back."""

    task: str
    shots: int
    question: str
    expected: str
    prediction: str
    right: bool
    credit: float | None
    """What the task's metric gives for it, where that lies between wrong (0) and right (1)."""
    metric: str
    image: str
    """Digest of the image; empty where none was shown."""
    demonstrations: str
    """Answers of the demonstrations before the question, in order."""


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """An answer with its picture."""

    answer: AskedItem
    picture: Picture | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same question to base and tuned model."""

    base: AskedItem
    tuned: AskedItem
    picture: Picture | None


def read_answers(story: RunStory, scored: Scored) -> list[AskedItem]:
    """All examples of a report; none, with a remark on the page, when they cannot be read."""
    try:
        lines = scored.found.store.get_bytes(scored.report.examples).decode().splitlines()
        return [_answer(json.loads(line)) for line in lines if line.strip()]
    except (Mm1Error, ValueError, AttributeError) as error:
        story.problems.append(f"examples of evaluation {scored.digest[:12]} could not be read: {error}")
        return []


def choose(scored: Scored, answers: list[AskedItem], album: Album, config: ReportConfig) -> dict[str, list[ShownAnswer]]:
    """By task, a few answers: right and wrong ones in turn, while there are both."""
    chosen: dict[str, list[ShownAnswer]] = {}
    for task in dict.fromkeys(answer.task for answer in answers):
        mine = _by_shots_in_turn([answer for answer in answers if answer.task == task])
        right = [answer for answer in mine if answer.right]
        wrong = [answer for answer in mine if not answer.right]
        picked = sorted(_alternate(right, wrong, config.examples_per_task), key=lambda answer: not answer.right)
        chosen[task] = [ShownAnswer(answer=answer, picture=picture(scored, answer.image, album)) for answer in picked]
    return chosen


def pairs(
    comparison: Comparison, base: list[AskedItem], tuned: list[AskedItem], album: Album, config: ReportConfig
) -> list[Pair]:
    """Questions that base and tuned model were both asked; where tuning changed the verdict first."""
    asked = {(answer.task, answer.shots, answer.question, answer.image): answer for answer in base}
    found = [
        (former, answer)
        for answer in tuned
        if (former := asked.get((answer.task, answer.shots, answer.question, answer.image)))
    ]
    found.sort(key=lambda pair: (not pair[1].task.startswith("instruct"), pair[0].right == pair[1].right))
    return [
        Pair(base=former, tuned=answer, picture=picture(comparison.tuned, answer.image, album))
        for former, answer in found[: config.examples_per_task]
    ]


def picture(scored: Scored, digest: str, album: Album) -> Picture | None:
    """The image of an example; None where there was none."""
    if not digest:
        return None
    ref = next((ref for ref in scored.report.images.values() if ref.sha256 == digest), None)
    if ref is None:
        return Picture(note="image not in the report")
    try:
        return album.picture(scored.found.store.get_bytes(ref))
    except Mm1Error:
        return Picture(note="image not in the store")


def _answer(line: dict[str, Any]) -> AskedItem:
    expected = line.get("answer", "")
    value = line.get("value", line.get("correct"))
    shown = [str(item.get("answer", "")) for item in line.get("demonstrations") or [] if isinstance(item, dict)]
    return AskedItem(
        task=str(line.get("task", "")),
        shots=int(line.get("shots") or 0),
        question=str(line.get("question") or ""),
        expected=" / ".join(map(str, dict.fromkeys(expected))) if isinstance(expected, list) else str(expected),
        prediction=str(line.get("prediction") or ""),
        right=float(line.get("correct") or 0) >= 0.5,
        credit=float(value) if isinstance(value, int | float) and 0 < value < 1 else None,
        metric=str(line.get("metric") or "credit"),
        image=str(line.get("image") or ""),
        demonstrations=", ".join(shown),
    )


def _by_shots_in_turn(answers: list[AskedItem]) -> list[AskedItem]:
    """Answers with few and with many demonstrations in turn, otherwise in their order."""
    seen: Counter[int] = Counter()
    rounds = []
    for answer in answers:
        rounds.append((seen[answer.shots], answer))
        seen[answer.shots] += 1
    return [answer for _, answer in sorted(rounds, key=lambda pair: pair[0])]


def _alternate(right: list[AskedItem], wrong: list[AskedItem], count: int) -> Iterator[AskedItem]:
    """Half right, half wrong; what one side lacks the other fills."""
    take_wrong = min(len(wrong), max(count // 2, count - len(right)))
    yield from right[: count - take_wrong]
    yield from wrong[:take_wrong]
