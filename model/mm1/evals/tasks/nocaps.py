"""NoCaps: captions of images with objects that COCO's captions do not name; CIDEr-D on the validation split (MM1, appendix C).

Format: ``nocaps_val_4500_captions.json`` in COCO's format, where an image also has its ``domain``: in-domain, near-domain or
out-domain, by which scores are broken down. ``nocaps_test_image_info.json`` has the images of the test split, without
captions. There is no training split: demonstrations are other images of the validation split. Also Hugging Face's Parquet
files.
"""

from __future__ import annotations

from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import cider, content_f1
from mm1.evals.readers.captions import read_coco
from mm1.evals.readers.hugging_face import read_shards
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import CAPTION_TOKENS, TEMPLATES, numbered_caption

NAMES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
SHARDS = {"val": "validation-*.parquet", "test": "test-*.parquet"}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if files.has_own(SHARDS[split]):
        return read_shards(files, SHARDS[split], _fields)
    return read_coco(files, files.find(NAMES[split]), kind=lambda image: str(image.get("domain", "")))


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    captions = tuple(map(str, row.get("annotations_captions") or ()))
    kind = str(row.get("image_domain") or "")
    return {"id": str(row["image_id"]), "answer": next(iter(captions), ""), "references": captions, "question_type": kind}


nocaps = Task(
    name="nocaps",
    summary="describe an image whose objects are new to COCO's captions",
    files=("nocaps_val_4500_captions.json, or nocaps_test_image_info.json", "<Open Images id>.jpg (images)"),
    form="caption",
    read=read,
    splits=("val", "test"),
    demonstration_split="val",
    same_type=False,
    metrics={"cider": cider, "content_f1": content_f1},
    templates=TEMPLATES,
    max_new_tokens=CAPTION_TOKENS,
    control_shots=(0,),
    submission=numbered_caption,
)
