"""A benchmark of pictures that are not trained on: their captions, in COCO's format, and their topics, in VQAv2's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .pictures import Pair
from .write import complete

QUESTION = "what is it about ?"


def write_benchmark(pairs: Iterable[Pair], folder: Path) -> None:
    """Write the split ``test``: every other picture is a question, the others are demonstrations (worked examples)."""
    with complete(folder / "test") as part:
        (part / "images").mkdir(parents=True)
        numbered = list(enumerate(pairs, start=1))
        for number, pair in numbered:
            (part / "images" / f"{number}.png").write_bytes(pair.png)
        for suffix, some in (("", numbered[::2]), ("_demo", numbered[1::2])):
            _write(part / f"captions{suffix}.json", _captions(some))
            _write(part / f"topic{suffix}_questions.json", {"questions": [_question(number) for number, _ in some]})
            _write(part / f"topic{suffix}_annotations.json", {"annotations": [_answer(number, pair) for number, pair in some]})


def _captions(numbered: list[tuple[int, Pair]]) -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": f"{number}.png"} for number, _ in numbered],
        "annotations": [{"id": number, "image_id": number, "caption": pair.drawing.caption} for number, pair in numbered],
    }


def _question(number: int) -> dict[str, Any]:
    return {"question_id": number, "image_id": number, "question": QUESTION}


def _answer(number: int, pair: Pair) -> dict[str, Any]:
    return {"question_id": number, "image_id": number, "answers": [{"answer": pair.drawing.topic.partition("/")[0]}]}


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=1))
