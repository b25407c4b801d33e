"""Small files of TextCore's benchmarks in their official formats, with invented content; and as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.official_files import write, write_parquet

COUNT = 4


def arc_rows(part: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{part}_{n}",
            "question": {
                "stem": f"Which ring is number {n}?",
                "choices": [{"text": f"ring {k}", "label": label} for k, label in enumerate("ABCD")],
            },
            "answerKey": "ABCD"[n % 4],
        }
        for n in range(COUNT)
    ]


def arc(root: Path) -> None:
    for part in ("ARC-Easy", "ARC-Challenge"):
        for split in ("Train", "Dev", "Test"):
            write(root / f"ARC-V1-Feb2018-2/{part}/{part}-{split}.jsonl", arc_rows(f"{part}-{split}"))


def arc_parquet(root: Path) -> None:
    for part in ("ARC-Easy", "ARC-Challenge"):
        for split, name in (("Train", "train"), ("Dev", "validation"), ("Test", "test")):
            rows = [
                {
                    "id": row["id"],
                    "question": row["question"]["stem"],
                    "choices": {key: [choice[key] for choice in row["question"]["choices"]] for key in ("text", "label")},
                    "answerKey": row["answerKey"],
                }
                for row in arc_rows(f"{part}-{split}")
            ]
            write_parquet(root / part / f"{name}-00000-of-00001.parquet", rows)


def piqa_rows() -> list[dict[str, Any]]:
    return [{"goal": f"To open ring {n}", "sol1": f"pull it {n} times", "sol2": "eat it"} for n in range(COUNT)]


def piqa(root: Path) -> None:
    for name in ("train", "valid"):
        write(root / f"{name}.jsonl", piqa_rows())
        write(root / f"{name}-labels.lst", "".join(f"{n % 2}\n" for n in range(COUNT)))
    write(root / "tests.jsonl", piqa_rows())


def piqa_parquet(root: Path) -> None:
    rows = [row | {"label": n % 2} for n, row in enumerate(piqa_rows())]
    for split in ("train", "validation"):
        write_parquet(root / f"plain_text/{split}-00000-of-00001.parquet", rows)


def lambada(root: Path) -> None:
    write(root / "lambada_test.jsonl", [{"text": f"the man took ring {n} and the other ring\nwas red"} for n in range(COUNT)])


def lambada_parquet(root: Path) -> None:
    rows = [{"text": f"the man took ring {n} and the other ring\nwas red"} for n in range(COUNT)]
    write_parquet(root / "data/test-00000-of-00001.parquet", rows)


def winogrande_rows() -> list[dict[str, Any]]:
    rows = [
        {"sentence": f"Ian gave Dennis ring {n} because _ was kind.", "option1": "Ian", "option2": "Dennis"}
        for n in range(COUNT - 1)
    ]
    rows.append({"sentence": "_ took the ring from Dennis.", "option1": "Ian", "option2": "Dennis"})
    return [row | {"answer": str(1 + n % 2)} for n, row in enumerate(rows)]


def winogrande(root: Path) -> None:
    rows = [row | {"qID": f"3D{n}-{1 + n % 2}"} for n, row in enumerate(winogrande_rows())]
    for name in ("dev", "train_xl"):
        write(root / f"winogrande_1.1/{name}.jsonl", rows)
    write(root / "winogrande_1.1/test.jsonl", [{key: row[key] for key in row if key != "answer"} for row in rows])


def winogrande_parquet(root: Path) -> None:
    for split in ("train", "validation"):
        write_parquet(root / f"winogrande_xl/{split}-00000-of-00001.parquet", winogrande_rows())


def hellaswag_rows() -> list[dict[str, Any]]:
    return [
        {
            "ind": 24 + n,
            "activity_label": "How to open a ring [title] quickly",
            "ctx_a": f"[header] Open  ring {n}. [step] Take it.",
            "ctx_b": "then you",
            "ctx": f"[header] Open ring {n}. [step] Take it. then you",
            "endings": ["pull. [substeps] Pull again.", "eat it.", "sleep.", "sing [title] loudly."],
            "source_id": "wikihow~1",
            "split": "val",
            "split_type": "indomain",
            "label": n % 4,
        }
        for n in range(COUNT)
    ]


def hellaswag(root: Path) -> None:
    for split in ("val", "train"):
        write(root / f"hellaswag_{split}.jsonl", hellaswag_rows())
    write(root / "hellaswag_test.jsonl", [{key: row[key] for key in row if key != "label"} for row in hellaswag_rows()])


def hellaswag_parquet(root: Path) -> None:
    for split in ("validation", "train"):
        rows = [row | {"label": str(row["label"])} for row in hellaswag_rows()]
        write_parquet(root / f"data/{split}-00000-of-00001.parquet", rows)


def sciq_rows() -> list[dict[str, Any]]:
    return [
        {
            "question": f"What is ring {n} made of?",
            "distractor3": "water",
            "distractor1": "fire",
            "distractor2": "air",
            "correct_answer": "gold",
            "support": f" Ring {n} is made of gold." if n else "",
        }
        for n in range(COUNT)
    ]


def sciq(root: Path) -> None:
    for name in ("test", "valid", "train"):
        write(root / f"SciQ dataset-2 3/{name}.json", sciq_rows())


def sciq_parquet(root: Path) -> None:
    for split in ("test", "validation", "train"):
        write_parquet(root / f"data/{split}-00000-of-00001.parquet", sciq_rows())


def triviaqa(root: Path) -> None:
    for split in ("dev", "train"):
        rows = [
            {
                "Answer": {"Aliases": ["The Ring", "A Ring"], "NormalizedAliases": ["ring"], "Type": "Entity", "Value": "Ring"},
                "EntityPages": [],
                "Question": f"Which film has {n} rings?",
                "QuestionId": f"tc_{n}",
                "SearchResults": [{"Title": "Rings", "Rank": 1}],
            }
            for n in range(COUNT)
        ]
        content = {"Data": rows, "Domain": "Web", "Split": split, "VerifiedEval": False, "Version": 1.0}
        write(root / f"triviaqa-unfiltered/unfiltered-web-{split}.json", content)


def triviaqa_parquet(root: Path) -> None:
    for split in ("validation", "train"):
        rows = [
            {
                "question": f"Which film has {n} rings?",
                "question_id": f"tc_{n}",
                "answer": {"aliases": ["The Ring", "A Ring"], "normalized_aliases": ["ring"], "value": "Ring"},
            }
            for n in (*range(COUNT), 0)  # a question of both domains
        ]
        write_parquet(root / f"rc.nocontext/{split}-00000-of-00001.parquet", rows)


def webqs(root: Path) -> None:
    for split in ("test", "train"):
        rows = [
            {
                "url": f"http://www.freebase.com/view/en/ring_{n}",
                "targetValue": f'(list (description "Ring \\"{n}\\" of gold") (description Gold))',
                "utterance": f"what is ring {n}?",
            }
            for n in range(COUNT)
        ]
        write(root / f"webquestions.examples.{split}.json", rows)


def webqs_parquet(root: Path) -> None:
    for split in ("test", "train"):
        rows = [{"url": "", "question": f"what is ring {n}?", "answers": [f'Ring "{n}" of gold', "Gold"]} for n in range(COUNT)]
        write_parquet(root / f"data/{split}-00000-of-00001.parquet", rows)


NAMES = ("arc", "piqa", "lambada", "winogrande", "hellaswag", "sciq", "triviaqa", "webqs")
WRITERS = {name: globals()[name] for name in NAMES}
"""Folder of the benchmark -> writer of its official files."""
PARQUET_WRITERS = {name: globals()[f"{name}_parquet"] for name in NAMES}
"""Folder of the benchmark -> writer of the files on Hugging Face."""
