"""Small files of the benchmarks of tuned models (MM1 5) in their official formats, with invented content."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.official_files import IMAGE, lines, write
from tests.support.tiny_mm1 import picture


def write_mme(folder: Path) -> None:
    root = folder / "MME_Benchmark_release_version"
    for subtask, beside in (("existence", True), ("artwork", False), ("code_reasoning", True)):
        for number in (1, 2):
            texts = root / subtask if beside else root / subtask / "questions_answers_YN"
            images = root / subtask if beside else root / subtask / "images"
            write(images / f"{number}.jpg", picture(number))
            write(texts / f"{number}.txt", "Is it red? Please answer yes or no.\tYes\nIs it a ring?\tNo\n")


def write_pope(folder: Path) -> None:
    for setting in ("random", "popular", "adversarial"):
        rows = [
            {
                "question_id": n,
                "image": f"COCO_val2014_00000000000{n}.jpg",
                "text": f"Is there a {setting} ring?",
                "label": label,
            }
            for n, label in ((1, "yes"), (2, "no"))
        ]
        write(folder / f"coco_pope_{setting}.json", lines(rows))
    for n in (1, 2):
        write(folder / "val2014" / f"COCO_val2014_00000000000{n}.jpg", picture(n))


def refcoco_rows(prefix: str, part: str) -> dict[str, Any]:
    """A file in COCO's format, as MDETR distributes RefCOCO: an image per expression, a box in pixels of a picture of 16."""
    images = [
        {"id": n, "file_name": f"COCO_train2014_00000000000{n}.jpg", "width": 16, "height": 16, "caption": f"{part} ring {n}"}
        for n in (1, 2)
    ]
    boxes = [{"id": 10 * n, "image_id": n, "bbox": [2.0 * n, 1, 8, 4.5], "category_id": 1} for n in (1, 2)]
    return {"info": {"set": prefix}, "images": images, "annotations": boxes, "categories": []}


def _write_refcoco(folder: Path, prefix: str, splits: tuple[str, ...]) -> None:
    for split in splits:
        write(folder / f"finetune_{prefix}_{split}.json", refcoco_rows(prefix, split))
    for n in (1, 2):
        write(folder / "train2014" / f"COCO_train2014_00000000000{n}.jpg", picture(n))


def write_refcoco(folder: Path) -> None:
    _write_refcoco(folder, "refcoco", ("testA", "testB", "val"))


def write_refcocoplus(folder: Path) -> None:
    _write_refcoco(folder, "refcoco+", ("testA", "testB", "val"))


def write_refcocog(folder: Path) -> None:
    _write_refcoco(folder, "refcocog", ("test", "val"))


MMBENCH_HEAD = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image")


def write_mmbench(folder: Path, rows: list[tuple[Any, ...]] | None = None) -> None:
    image = base64.b64encode(picture(1)).decode()
    rows = rows or [
        (7, "Which colour?", "a hint\nof two lines", "red", "blue", "green", "", "B", "colour", image),
        (9, "Which shape?", "", "ring", "cross", "", "", "A", "shape", "7"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "MMBench_DEV_EN.tsv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(MMBENCH_HEAD)
        table.writerows(rows)


def write_seed(folder: Path) -> None:
    questions = [
        {
            "answer": "C",
            **{f"choice_{letter}": f"{letter} ring" for letter in "abcd"},
            "data_id": data_id,
            "data_type": kind,
            "question": "Which ring?",
            "question_id": f"10{number}",
            "question_type_id": 1,
        }
        for number, (data_id, kind) in enumerate((("145_25", "image"), ("77_1", "image"), ("v_1.mp4", "video")))
    ]
    write(folder / "SEED-Bench.json", {"questions": questions, "question_type": {"Scene Understanding": 1}})
    for name in ("145_25", "77_1"):
        write(folder / "SEED-Bench-image" / f"{name}.jpg", picture(1))


def write_scienceqa(folder: Path) -> None:
    problems = {
        str(n): {
            "question": f"Which is {n}?",
            "choices": ["a ring", "a cross"],
            "answer": n % 2,
            "hint": "Look." if n == 1 else "",
            "image": None if n == 3 else "image.png",
            "subject": "natural science",
            "lecture": "Rings are round.",
            "solution": "It is round.",
            "split": "train" if n > 3 else "test",
        }
        for n in range(1, 8)
    }
    write(folder / "problems.json", problems)
    splits = {"test": ["1", "2", "3"], "train": ["4", "5", "6", "7"], "val": [], "minitest": [], "minival": []}
    write(folder / "pid_splits.json", splits)
    for n, problem in problems.items():
        if problem["image"]:
            write(folder / problem["split"] / n / "image.png", picture(int(n)))


def write_ai2d(folder: Path) -> None:
    write(folder / "ai2d_test_ids.csv", "0\n1\n")
    for n in range(5):
        questions = {
            f"What is {n}?": {
                "abcLabel": n == 1,
                "answerTexts": ["moth", "ant", "bee", "fly"],
                "correctAnswer": n % 4,
                "questionId": f"{n}.png-0",
            }
        }
        write(folder / "questions" / f"{n}.png.json", {"imageName": f"{n}.png", "questions": questions})
        for images in ("images", "abc_images"):
            write(folder / images / f"{n}.png", picture(n + 1))


def write_chartqa(folder: Path) -> None:
    for split in ("test", "train"):
        for kind in ("human", "augmented"):
            rows = [{"imgname": f"{kind}{n}.png", "query": f"How many in {n}?", "label": str(10 * n)} for n in range(3)]
            write(folder / "ChartQA Dataset" / split / f"{split}_{kind}.json", rows)
            for n in range(3):
                write(folder / "ChartQA Dataset" / split / "png" / f"{kind}{n}.png", picture(n + 1))


def write_docvqa(folder: Path) -> None:
    for split, name in (("val", "val_v1.0_withQT.json"), ("train", "train_v1.0_withQT.json"), ("test", "test_v1.0.json")):
        rows = [
            {
                "questionId": 100 + n,
                "question": f"What is on page {n}?",
                "image": f"documents/abc0{n}_{n}.png",
                "docId": n,
                **({} if split == "test" else {"answers": ["ITC Limited", "itc limited"], "question_types": ["form"]}),
            }
            for n in range(3)
        ]
        write(folder / name, {"dataset_name": "docvqa", "data": rows})
    for n in range(3):
        write(folder / "documents" / f"abc0{n}_{n}.png", picture(n + 1))


def write_infovqa(folder: Path) -> None:
    rows = [
        {
            "questionId": 65718 + n,
            "question": "Which platform?",
            "image_local_name": f"3897{n}.jpeg",
            "answers": ["pinterest"],
            "answer_type": ["single span"],
        }
        for n in range(2)
    ]
    for split in ("val", "train"):
        write(folder / f"infographicsVQA_{split}_v1.0_withQT.json", {"data": rows})
    for n in range(2):
        write(folder / "infographicsvqa_images" / f"3897{n}.jpeg", picture(n + 1))


def cell(seed: int) -> dict[str, Any]:
    return {"bytes": picture(seed), "path": f"{seed}.png"}


def write_mmmu(folder: Path) -> None:
    schema = pa.schema(
        {name: pa.string() for name in ("id", "question", "options", "answer", "question_type", "subfield")}
        | {f"image_{n}": IMAGE for n in range(1, 8)}
    )
    for split, count in (("validation", 2), ("dev", 5)):
        rows = []
        for n in range(count):
            rows.append(
                {
                    "id": f"{split}_Art_{n + 1}",
                    "question": "Compare <image 2> with <image 1>." if n == 0 else "How many rings? <image 1>",
                    "options": "['<image 1>', 'a cross', \"it's red\"]" if n == 0 else "[]",
                    "answer": "B" if n == 0 else "['4', 'four']",
                    "question_type": "multiple-choice" if n == 0 else "open",
                    "image_1": cell(n + 1),
                    "image_2": cell(n + 2) if n == 0 else None,
                }
            )
        (folder / "Art").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "Art" / f"{split}-00000-of-00001.parquet", row_group_size=1)


def mathvista_entry(n: int) -> dict[str, Any]:
    chosen = n % 2 == 0
    return {
        "pid": str(n),
        "question": f"How many rings in {n}?",
        "query": f"Hint: Please answer.\nQuestion: How many rings in {n}?",
        "image": f"images/{n}.jpg",
        "choices": ["3", "4"] if chosen else None,
        "unit": None,
        "precision": None if chosen else 1.0,
        "answer": "4" if chosen else "1.5",
        "question_type": "multi_choice" if chosen else "free_form",
        "answer_type": "text" if chosen else "float",
        "metadata": {"task": "geometry problem solving"},
    }


def write_mathvista(folder: Path) -> None:
    write(folder / "testmini.json", {str(n): mathvista_entry(n) for n in range(1, 7)})
    for n in range(1, 7):
        write(folder / "images" / f"{n}.jpg", picture(n))
    write(folder / "demonstrations.jsonl", [{"pid": str(n), "steps": f"I count {n}."} for n in (3, 4, 5, 6)])


def write_nlvr2(folder: Path) -> None:
    for split in ("dev", "train"):
        rows = [
            {"identifier": f"{split}-{n}-0-{m}", "sentence": f"Both have {m} rings.", "label": "True" if m else "False"}
            for n in range(3)
            for m in range(2)
        ]
        write(folder / f"{split}.json", lines(rows))
        for n in range(3):
            for side in (0, 1):
                write(folder / split / f"{split}-{n}-0-img{side}.png", picture(2 * n + side + 1))


def write_muirbench(folder: Path) -> None:
    schema = pa.schema(
        {name: pa.string() for name in ("idx", "task", "question", "answer")}
        | {"options": pa.list_(pa.string()), "image_list": pa.list_(IMAGE)}
    )
    rows = [
        {
            "idx": str(n),
            "task": "Counting",
            "question": "Which has more rings than <image>?",
            "options": ["<image>", "<image>", "none"],
            "answer": "B",
            "image_list": [cell(n + k) for k in (1, 2, 3)],
        }
        for n in range(3)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "test-00000-of-00001.parquet")


def write_llava_w(folder: Path) -> None:
    rows = [{"question_id": n, "image": f"00{n + 1}.jpg", "text": f"What is in {n}?", "category": "conv"} for n in range(3)]
    write(folder / "questions.jsonl", rows)
    write(folder / "context.jsonl", [{"id": f"00{n + 1}", "image": f"00{n + 1}.jpg", "caption": "A ring."} for n in range(3)])
    write(folder / "answers_gpt4.jsonl", [{"question_id": n, "text": "It is a ring.", "answer_id": "x"} for n in range(3)])
    for n in range(3):
        write(folder / "images" / f"00{n + 1}.jpg", picture(n + 1))


def write_mmvet(folder: Path) -> None:
    rows = {
        f"v1_{n}": {
            "imagename": f"v1_{n}.png",
            "question": "What is x?",
            "answer": "-1<AND>-5",
            "capability": ["ocr", "math"],
        }
        for n in range(3)
    }
    write(folder / "mm-vet.json", rows)
    for n in range(3):
        write(folder / "images" / f"v1_{n}.png", picture(n + 1))


WRITERS = {name.removeprefix("write_"): value for name, value in list(globals().items()) if name.startswith("write_")}
"""Benchmark -> writer of its files."""


def write_all(root: Path) -> Path:
    """Write every benchmark into a folder of its name."""
    for name, writer in WRITERS.items():
        writer(root / name)
    return root
