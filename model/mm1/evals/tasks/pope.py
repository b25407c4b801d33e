"""POPE: is an object in the image? With random, popular and adversarial negative objects.

Format: ``coco_pope_{random,popular,adversarial}.json`` of JSON lines with ``question_id``, ``image``, ``text``, ``label``;
images of COCO val2014. The usual score is the mean F1 of "yes" over the three settings; the column of MM1 5 is its accuracy
or F1 (not stated).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mm1.evals.files import Files, MissingFile
from mm1.evals.items import Item
from mm1.evals.metrics import CorpusMetric, literal_accuracy
from mm1.evals.metrics.yes_no import BinaryScores, pope_answer, pope_scores
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import SHORT_ANSWER

SETTINGS = ("random", "popular", "adversarial")


def read(files: Files, split: str) -> list[Item]:
    """Read the questions of the settings that the folder has."""
    items = []
    for setting in SETTINGS:
        try:
            path = files.find(f"coco_pope_{setting}.json")
        except MissingFile:
            continue
        items += _setting(files, path, setting)
    if not items:
        names = "coco_pope_random.json, _popular or _adversarial"
        raise MissingFile(f"task {files.task}: no file {names} in {files.folder}{files.packed()}")
    return items


def _setting(files: Files, path: Path, setting: str) -> list[Item]:
    def make(row: Mapping[str, Any]) -> Item:
        label = str(row["label"]).lower()
        if label not in ("yes", "no"):
            raise ValueError(f"expected the label yes or no, got {label!r}")
        return Item(
            id=f"{setting}/{row['question_id']}",
            images=(files.image(row["image"]),),
            question=str(row["text"]),
            question_type=setting,
            answer=label,
            references=(label,),
        )

    return files.items(path, files.rows(path), make)


def _mean_over_settings(measure: Callable[[BinaryScores], float]) -> CorpusMetric:
    def metric(predictions: Sequence[str], items: Sequence[Item]) -> float:
        values = []
        for setting in SETTINGS:
            rows = [row for row, item in enumerate(items) if item.question_type == setting]
            if rows:
                scores = pope_scores([predictions[row] for row in rows], [items[row].answer for row in rows])
                values.append(measure(scores))
        return fmean(values)

    return metric


pope = Task(
    name="pope",
    summary="answer whether an object is in the image",
    files=("coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json", "val2014/ (COCO images)"),
    form="question",
    read=read,
    splits=("test",),
    extract=lambda prediction, item: pope_answer(prediction),
    metrics={"accuracy": literal_accuracy},
    corpus_metrics={
        "f1": _mean_over_settings(lambda scores: scores.f1),
        "precision": _mean_over_settings(lambda scores: scores.precision),
        "recall": _mean_over_settings(lambda scores: scores.recall),
        "yes_share": _mean_over_settings(lambda scores: scores.yes_share),
    },
    instruction=SHORT_ANSWER,
    max_new_tokens=16,
)
