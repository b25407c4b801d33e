"""Answers of an evaluation for readers: prompt, output and values of each item, from the table of answers.

The table is that of :mod:`mm1.evals.samples`; images come from wherever the caller keeps them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mm1.generation.prompt import IMAGE_MARK
from mm1.lineage.text import split_labels
from mm1.report.album import Album, Picture
from mm1.report.answers import Mark
from mm1.report.config import ReportConfig

MAX_TYPES = 40
"""Number of question types up to which they are broken down; MMMU has 30 subjects."""
ImageOf = Callable[[str], bytes | None]
"""SHA-256 of an encoded image -> the image, None if it is not kept."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ItemView:
    """One answer."""

    item: str
    question_type: str
    draw: int
    pieces: list[str | Picture]
    """The prompt: texts, and images in their positions."""
    output: str
    prediction: str
    expected: str
    choices: list[tuple[str, float]]
    """Choices with their log-probabilities, the likeliest first."""
    values: dict[str, float]
    mark: Mark | None
    """None: the answer has no value."""
    cut: bool
    """Whether the answer ended at the limit of new tokens."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Answers of a task at one number of shots."""

    task: str
    """Its name, with the split if there are several of it."""
    shots: int
    control: str
    metric: str
    """Headline metric, by which answers are right or wrong."""
    num_answers: int
    """One per item and draw of demonstrations."""
    num_cut: int
    """Answers that ended at the limit of new tokens."""
    by_type: list[tuple[str, float, int]]
    """Question type, mean of the headline metric, and number of items; empty if there is one type, or more than can be read."""
    items: list[ItemView]


def groups(rows: Iterable[Row], image_of: ImageOf, album: Album, config: ReportConfig) -> list[Group]:
    """Arrange answers by task, split, shots and control, with examples of right and of wrong ones."""
    rows = list(rows)
    labels = split_labels((row["task"], row["split"]) for row in rows)
    by_group: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_group[labels[row["task"], row["split"]], row["shots"], row["control"]].append(row)
    return [_group(key, members, image_of, album, config) for key, members in by_group.items()]


def _group(key: tuple[str, int, str], rows: Sequence[Row], image_of: ImageOf, album: Album, config: ReportConfig) -> Group:
    task, shots, control = key
    metric = next((name for name, _ in rows[0]["values"]), "")
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row["question_type"]].append(row)
    by_type = [
        (kind, fmean(dict(row["values"]).get(metric, 0.0) for row in some), len({row["item"] for row in some}))
        for kind, some in sorted(kinds.items())
    ]
    chosen = _chosen(rows, metric, config.items_per_group) if control == "none" else []
    return Group(
        task=task,
        shots=shots,
        control=control,
        metric=metric,
        num_answers=len(rows),
        num_cut=sum(row["finish_reason"] == "length" for row in rows),
        by_type=by_type if 1 < len(by_type) <= MAX_TYPES and metric else [],
        items=[_item(row, metric, image_of, album) for row in chosen],
    )


def _chosen(rows: Sequence[Row], metric: str, count: int) -> list[Row]:
    """Choose answers, as many wrong as right ones as far as there are both, in the order of the items."""
    marks = [_mark(row, metric) for row in rows]
    wrong = [index for index, mark in enumerate(marks) if mark != "right"]
    right = [index for index, mark in enumerate(marks) if mark == "right"]
    num_wrong = min(len(wrong), max(count // 2, count - len(right)))
    return [rows[index] for index in sorted(wrong[:num_wrong] + right[: count - num_wrong])]


def _item(row: Row, metric: str, image_of: ImageOf, album: Album) -> ItemView:
    pairs = zip(row["choices"], row["logprobs"], strict=False)
    return ItemView(
        item=row["item"],
        question_type=row["question_type"],
        draw=row["draw"],
        pieces=pieces_of(row["prompt"], row["images"], image_of, album),
        output=row["output"],
        prediction=row["prediction"],
        expected=" / ".join(dict.fromkeys(row["references"])),
        choices=sorted(pairs, key=lambda pair: -pair[1]),
        values=dict(row["values"]),
        mark=_mark(row, metric),
        cut=row["finish_reason"] == "length",
    )


def _mark(row: Row, metric: str) -> Mark | None:
    value = dict(row["values"]).get(metric)
    if value is None:
        return None
    return "right" if value >= 1 else "partly right" if value > 0 else "wrong"


def pieces_of(prompt: str, images: Sequence[str], image_of: ImageOf, album: Album) -> list[str | Picture]:
    """Split a prompt into texts and images in their positions; the prompt as it is if their numbers differ."""
    texts = prompt.split(IMAGE_MARK)
    if len(texts) != len(images) + 1:
        return [prompt]
    pieces: list[str | Picture] = []
    for number, text in enumerate(texts):
        if number:
            data = image_of(images[number - 1])
            pieces.append(album.picture(data) if data else Picture(note="image not kept"))
        if text:
            pieces.append(text)
    return pieces
