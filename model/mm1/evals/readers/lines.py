"""Text items: JSONL rows of ``id``, ``kind``, ``prompt``, ``answer`` and optional ``choices``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm1.evals.files import Files
from mm1.evals.items import Item


def read_text(files: Files, name: str) -> list[Item]:
    """Read the items of ``<name>.jsonl``.

    Raises:
        ConfigurationError: the file is missing.
        DataError: the file is damaged.
    """
    return files.items(f"{name}.jsonl", files.rows(f"{name}.jsonl"), _item)


def _item(row: Mapping[str, Any]) -> Item:
    choices = tuple(map(str, row.get("choices", ())))
    answer = str(row["answer"])
    return Item(
        id=str(row["id"]),
        question=str(row["prompt"]),
        question_type=str(row.get("kind", "")),
        answer=answer,
        references=(answer,),
        choices=choices,
    )
