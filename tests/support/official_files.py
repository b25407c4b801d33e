"""Small files of captioning and question benchmarks in their official formats, with invented content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.tiny_mm1 import picture

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write(path: Path, content: Any) -> None:
    """Text as it is, bytes as they are, a list in a .jsonl file as lines, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text(lines(content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


def lines(rows: Sequence[Any]) -> str:
    """JSON lines, for files with another suffix than .jsonl."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_images(folder: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        write(folder / name, picture(seed + len(folder.name)))


def write_parquet(path: Path, rows: list[dict[str, Any]], images: tuple[str, ...] = ()) -> None:
    """Rows of a Parquet file as Hugging Face writes them; an image is its seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = [{name: value for name, value in row.items() if name not in images} for row in rows]
    table = pa.Table.from_pylist(plain)
    for name in images:
        cells = [{"bytes": picture(row[name]), "path": f"{row[name]}.jpg"} for row in rows]
        table = table.append_column(name, pa.array(cells, IMAGE))
    pq.write_table(table, path, row_group_size=2)


# -- captions -----------------------------------------------------------------------------------------------------------


def sentences(n: int) -> list[str]:
    return [f"a big ring number {n}", f"the ring {n} is red"]


def coco_name(part: str, number: int) -> str:
    return f"COCO_{part}_{number:012d}.jpg"


def coco(root: Path) -> None:
    """Karpathy's splits and the official caption files of val2014."""
    parts = [("test", "val2014"), ("test", "val2014"), ("val", "val2014"), ("train", "train2014"), ("restval", "val2014")]
    rows = []
    for n, (split, part) in enumerate([*parts, *[("train", "train2014")] * 3], start=1):
        name = coco_name(part, 100 + n)
        raw = [{"raw": text, "tokens": text.split(), "imgid": n, "sentid": 2 * n + k} for k, text in enumerate(sentences(n))]
        ids = {"cocoid": 100 + n, "imgid": n, "sentids": [2 * n, 2 * n + 1]}
        rows.append({"filepath": part, "filename": name, "split": split, "sentences": raw} | ids)
        write_images(root / part, [name])
    write(root / "dataset_coco.json", {"images": rows, "dataset": "coco"})
    images = [row for row in rows if row["filepath"] == "val2014"]
    official = {
        "info": {"year": 2014},
        "images": [{"license": 3, "file_name": row["filename"], "height": 16, "id": row["cocoid"]} for row in images],
        "licenses": [],
        "annotations": [
            {"image_id": row["cocoid"], "id": 10 * row["cocoid"] + k, "caption": text}
            for row in images
            for k, text in enumerate(sentences(row["imgid"]))
        ],
    }
    write(root / "annotations/captions_val2014.json", official)


def nocaps(root: Path) -> None:
    images = [
        {"license": 0, "file_name": f"{n:016x}.jpg", "open_images_id": f"{n:016x}", "id": n, "domain": domain, "coco_url": ""}
        for n, domain in enumerate(("in-domain", "near-domain", "out-domain", "near-domain", "in-domain", "out-domain"))
    ]
    annotations = [
        {"image_id": n, "id": 10 * n + k, "caption": text} for n in range(len(images)) for k, text in enumerate(sentences(n))
    ]
    info = {"info": {}, "licenses": [], "images": images}
    write(root / "nocaps_val_4500_captions.json", info | {"annotations": annotations})
    write(root / "nocaps_test_image_info.json", info)
    write_images(root / "val", [image["file_name"] for image in images])


def textcaps(root: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        rows = []
        for n in range(count):
            image = f"{split}{n:010x}"
            row = {"image_id": image, "image_path": f"train/{image}.jpg", "set_name": split, "image_classes": ["Sign"]}
            texts = sentences(n)
            captions = [
                {"caption_id": 10 * n + k, "caption_str": text, "caption_tokens": text.split(), "reference_strs": texts}
                for k, text in enumerate(texts)
            ]
            rows += [row] if split == "test" else [row | caption for caption in captions]
            write_images(root / ("test_images" if split == "test" else "train_images"), [f"{image}.jpg"])
        header = {"dataset_type": split, "dataset_name": "textcaps", "dataset_version": "0.1"}
        write(root / f"TextCaps_0.1_{split}.json", header | {"data": rows})


# -- questions ----------------------------------------------------------------------------------------------------------

ANSWERS = ["red"] * 6 + ["dark red"] * 3 + ["blue"]


def answers() -> list[dict[str, Any]]:
    return [{"answer_id": n, "answer": text, "answer_confidence": "yes"} for n, text in enumerate(ANSWERS, start=1)]


def vqav2(root: Path) -> None:
    for part, folder, count in (
        ("train2014", "train2014", 6),
        ("val2014", "val2014", 3),
        ("test2015", "test2015", 3),
        ("test-dev2015", "test2015", 2),
    ):
        header = {
            "info": {"version": "2.0"},
            "task_type": "Open-Ended",
            "data_type": "mscoco",
            "license": {},
            "data_subtype": part,
        }
        questions = [
            {"image_id": n, "question": f"What colour is ring {n}?", "question_id": 1000 * n + k}
            for n in range(1, count + 1)
            for k in range(2)
        ]
        write(root / f"v2_OpenEnded_mscoco_{part}_questions.json", header | {"questions": questions})
        if "test" not in part:
            annotations = [
                {
                    "question_type": "what colour",
                    "multiple_choice_answer": "red",
                    "answers": answers(),
                    "image_id": row["image_id"],
                    "answer_type": ("other", "yes/no", "number")[row["image_id"] % 3],
                    "question_id": row["question_id"],
                }
                for row in questions
            ]
            write(root / f"v2_mscoco_{part}_annotations.json", header | {"annotations": annotations})
        write_images(root / folder, [coco_name(folder, n) for n in range(1, count + 1)])


def okvqa(root: Path) -> None:
    """Its images are those of the folder vqav2."""
    for part in ("train2014", "val2014"):
        questions = [{"image_id": n, "question": f"Sport {n}?", "question_id": 10 * n} for n in range(1, 4)]
        raw = ["riding horses"] * 4 + ["horse riding"] * 2 + ["surfing"] * 4
        stems = ["ride horse"] * 4 + ["horse ride"] * 2 + ["surf"] * 4
        annotations = [
            {
                "image_id": row["image_id"],
                "answer_type": "other",
                "question_type": "four",
                "question_id": row["question_id"],
                "answers": [
                    {"answer_id": n, "raw_answer": spelled, "answer_confidence": "yes", "answer": stem}
                    for n, (spelled, stem) in enumerate(zip(raw, stems, strict=True), start=1)
                ],
                "confidence": 3,
            }
            for row in questions
        ]
        write(root / f"OpenEnded_mscoco_{part}_questions.json", {"questions": questions, "info": {}})
        kinds = {"four": "Sports and Recreation", "other": "Other"}
        write(root / f"mscoco_{part}_annotations.json", {"annotations": annotations, "question_types": kinds})


def textvqa(root: Path) -> None:
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        rows = []
        for n in range(count):
            image = f"{split}{n:010x}"
            row = {"question": f"what is on sign {n}?", "image_id": image, "question_id": 100 + n, "set_name": split}
            rows.append(row if split == "test" else row | {"answers": ANSWERS})
            write_images(root / ("test_images" if split == "test" else "train_images"), [f"{image}.jpg"])
        write(root / f"TextVQA_0.5.1_{split}.json", {"dataset_type": split, "dataset_version": "0.5.1", "data": rows})
        tokens = [{"image_id": row["image_id"], "ocr_tokens": ["STOP", "here"]} for row in rows]
        write(root / f"TextVQA_Rosetta_OCR_v0.2_{split}.json", {"data": tokens})


def vizwiz(root: Path) -> None:
    for split, count in (("train", 5), ("val", 4), ("test", 2)):
        kinds = ("other", "unanswerable", "yes/no", "number", "other")
        rows = []
        for n in range(count):
            row = {"image": f"VizWiz_{split}_{n:08d}.jpg", "question": f"What is this, number {n}?"}
            known = {"answers": answers(), "answer_type": kinds[n], "answerable": int(kinds[n] != "unanswerable")}
            rows.append(row if split == "test" else row | known)
        write(root / "Annotations" / f"{split}.json", rows)
        write_images(root / split, [row["image"] for row in rows])


def gqa(root: Path) -> None:
    for split, count in (("train", 5), ("testdev", 3), ("test", 2)):
        rows = {}
        for n in range(count):
            row = {"imageId": f"n{split}{n}", "question": f"Is ring {n} red?", "isBalanced": True}
            known = {"answer": "yes", "fullAnswer": "Yes, it is.", "types": {"structural": "verify", "semantic": "attr"}}
            rows[f"20{len(split)}{n}"] = row if split == "test" else row | known
            write_images(root / "images", [f"n{split}{n}.jpg"])
        write(root / f"{split}_balanced_questions.json", rows)


WRITERS = {
    "coco": coco,
    "nocaps": nocaps,
    "textcaps": textcaps,
    "vqav2": vqav2,
    "okvqa": okvqa,
    "textvqa": textvqa,
    "vizwiz": vizwiz,
    "gqa": gqa,
}
"""Folder of the benchmark -> writer of its files."""
