"""COCO captions: CIDEr-D on the test split of Karpathy (MM1, appendix C).

Format: ``dataset_coco.json`` of Karpathy's splits (``images`` with ``cocoid``, ``filepath``, ``filename``, ``split``,
``sentences``) and the images of ``train2014/`` and ``val2014/``; also the files ``coco_karpathy_<split>.json`` of image and
captions. The splits val2014 and train2014 are those of ``annotations/captions_<split>.json``, and test2014 has no captions.
Karpathy's training split includes his restval.
"""

from __future__ import annotations

from mm1.evals.files import Files
from mm1.evals.items import Item
from mm1.evals.metrics import cider, content_f1
from mm1.evals.readers.captions import read_coco, read_karpathy, read_pairs
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.protocol import CAPTION_TOKENS, TEMPLATES, numbered_caption

OFFICIAL = {
    "val2014": "captions_val2014.json",
    "train2014": "captions_train2014.json",
    "test2014": "image_info_test2014.json",
}


def read(files: Files, split: str) -> list[Item]:
    """Read a split."""
    if split in OFFICIAL:
        return read_coco(files, files.find(OFFICIAL[split]))
    path = files.find("dataset_coco.json", f"coco_karpathy_{split}.json")
    if path.name == "dataset_coco.json":
        return read_karpathy(files, path, ("train", "restval") if split == "train" else (split,))
    return read_pairs(files, path, files.entries(path))


coco = Task(
    name="coco",
    summary="describe an image of COCO in one sentence",
    files=("dataset_coco.json (Karpathy)", "val2014/ (images)", "train2014/ (images, for demonstrations)"),
    form="caption",
    read=read,
    splits=("test", "val", "train", *OFFICIAL),
    same_type=False,
    metrics={"cider": cider, "content_f1": content_f1},
    templates=TEMPLATES,
    max_new_tokens=CAPTION_TOKENS,
    control_shots=(0,),
    submission=numbered_caption,
)
