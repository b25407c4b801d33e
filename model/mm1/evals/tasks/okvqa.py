"""OK-VQA: questions about COCO images that need knowledge; VQA accuracy on the validation split (MM1, appendix C).

Format: ``OpenEnded_mscoco_{train,val}2014_questions.json`` and ``mscoco_{train,val}2014_annotations.json``, where an answer
has its ``raw_answer`` and, as ``answer``, its stem by the authors' rules ("riding horses" -> "ride horse"). Scores compare
stems: an answer of the model gets the stem that the files give for it. Scores are broken down by the ten categories of
``question_types``. Also Hugging Face's Parquet files.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics.vqa import normalise
from mm1.evals.readers.hugging_face import question_fields, read_shards
from mm1.evals.readers.vqav2 import Fields, Row, answers_of, read_pair
from mm1.evals.tasks.protocol import most_frequent, short_answer
from mm1.evals.tasks.vqav2 import coco_image, vqav2


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    part = f"{split}2014"
    if files.has_own(f"{part}-*.parquet"):
        return read_shards(files, f"{part}-*.parquet", question_fields)
    questions, annotations = (
        files.find(f"OpenEnded_mscoco_{part}_questions.json"),
        files.find(f"mscoco_{part}_annotations.json"),
    )
    names = _categories(files, annotations)
    spellings: dict[str, set[str]] = defaultdict(set)

    def fields(annotation: Row) -> Fields:
        raw = [str(entry.get("raw_answer", entry["answer"])) for entry in annotation["answers"]]
        stems = answers_of(annotation)
        for spelling, stem in zip(raw, stems, strict=True):
            spellings[stem].add(normalise(spelling))
        kind = str(annotation.get("question_type", ""))
        return {"references": stems, "answer": most_frequent(raw), "question_type": names.get(kind, kind)}

    items = read_pair(files, questions, annotations, fields, coco_image(part))
    return [replace(item, extra=(("stems", _stems(item, spellings)),)) for item in items]


def _categories(files: Files, annotations: Path) -> dict[str, str]:
    if "question_types" not in files.keys(annotations):
        return {}
    return {str(key): str(name) for key, name in files.entries(annotations, "question_types")}


def _stems(item: Item, spellings: Mapping[str, set[str]]) -> str:
    """Write the spellings of an item's answers, anywhere in the file, with their stems."""
    return json.dumps({spelling: stem for stem in sorted(set(item.references)) for spelling in sorted(spellings[stem])})


def stemmed(prediction: str, item: Item) -> str:
    """Return the answer in the generated text; if it is a spelling of one of the item's answers, its stem."""
    answer = short_answer(prediction, item)
    stems = item.field("stems")
    return str(json.loads(stems).get(normalise(answer), answer)) if stems else answer


okvqa = replace(
    vqav2,
    name="okvqa",
    summary="answer a question about an image that needs knowledge of the world",
    files=(
        "OpenEnded_mscoco_{train,val}2014_questions.json",
        "mscoco_{train,val}2014_annotations.json",
        "train2014/, val2014/ (COCO images)",
    ),
    read=read,
    splits=("val", "train"),
    extract=stemmed,
    submission=None,
)
