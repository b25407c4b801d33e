"""TextCaps: captions that need the text in an image; CIDEr-D on the validation split (MM1, appendix C).

Format: ``TextCaps_0.1_{train,val,test}.json`` with one entry of ``data`` per caption (``image_id``, ``caption_str``,
``reference_strs``), per image in the test split. Images of train and val are in ``train_images/``, those of test in
``test_images/``. Also Hugging Face's Parquet files.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import cider, content_f1
from mm1.evals.readers.captions import read_textcaps
from mm1.evals.readers.hugging_face import read_shards
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import CAPTION_TOKENS, TEMPLATES


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if files.has_own(f"{split}-*.parquet"):
        return read_shards(files, f"{split}-*.parquet", _fields)
    return read_textcaps(files, files.find(f"TextCaps_0.1_{split}.json"))


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    captions = row.get("reference_strs") or row.get("caption_str") or ()
    references = tuple(map(str, [captions] if isinstance(captions, str) else captions))
    return {"id": str(row["image_id"]), "answer": next(iter(references), ""), "references": references}


def _result(item: Item, prediction: str) -> dict[str, object]:
    return {"image_id": item.id, "caption": prediction}


textcaps = Task(
    name="textcaps",
    summary="describe an image with the text in it",
    files=("TextCaps_0.1_{train,val,test}.json", "train_images/ (train and val)", "test_images/"),
    form="caption",
    read=read,
    splits=("val", "test", "train"),
    same_type=False,
    metrics={"cider": cider, "content_f1": content_f1},
    templates=TEMPLATES,
    max_new_tokens=CAPTION_TOKENS,
    control_shots=(0,),
    submission=_result,
)
