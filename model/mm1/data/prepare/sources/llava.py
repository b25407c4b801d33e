r"""Conversations in LLaVA's format: a JSON list of ``{"id", "image", "conversations": [{"from", "value"}]}``, and image files.

They become ChatML exactly as in MM1Processor's chat template, with loss only on the assistant's text and end of turn::

    <|im_start|>user\n [image] what is it ?<|im_end|>\n <|im_start|>assistant\n  a ring<|im_end|>  \n
    ------------------------------- no loss -----------------------------------  -----loss-----

Each piece is tokenised separately, split where the processor splits too: after turn headers and at special tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mm1.data.prepare.sources.jsonl import json_rows
from mm1.data.prepare.sources.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.data.tokenizer import IMAGE_TOKEN, TURN_END, TURN_START
from mm1.errors import DataError

MAX_ENTRY_BYTES = 64 << 20
ENTRY_BATCH = 64
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a JSON or jsonl file; image names are relative to the file or to ``images`` next to it.

    Raises:
        DataError: the file is not JSON in this format, or an image is remote.
    """
    entries = json_rows(file) if file.path.suffix == ".jsonl" else _array(file)
    return read_rows(file, entries, lambda origin, row: _sample(file, origin, row, clean))


def _array(file: RawInput) -> Iterator[tuple[int, Any]]:
    """Stream the entries of a JSON list, which may be larger than memory."""
    import duckdb

    with file.path.open("rb") as stream:
        if stream.read(4096).lstrip()[:1] != b"[":
            if file.root.is_file:
                raise DataError(f"{file.name}: not a list of conversations")
            return  # a folder may contain other JSON files (statistics, licences)
    number = 0
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET enable_progress_bar = false")
        options = f"format='array', maximum_object_size={MAX_ENTRY_BYTES}"
        try:
            rows = connection.execute(f"SELECT json FROM read_json_objects(?, {options})", [str(file.path)])
            while batch := rows.fetchmany(ENTRY_BATCH):
                for (text,) in batch:
                    number += 1
                    yield number, json.loads(text)
        except (duckdb.Error, ValueError) as error:
            why = str(error).splitlines()[0].replace(str(file.path), file.name)
            raise DataError(f"{file.name}: not JSON in UTF-8 ({why})") from None


def _sample(file: RawInput, origin: str, row: Any, clean: Clean) -> Sample:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise OddRow("no_conversation", "no list 'conversations'")
    named = row.get("image") or []
    names = [named] if isinstance(named, str) else list(named)
    messages = [(_role(turn), str(turn.get("value") or "").split(IMAGE_TOKEN)) for turn in turns]
    num_places = sum(len(pieces) - 1 for _, pieces in messages)
    if names and not num_places:
        messages[0] = (messages[0][0], [""] * len(names) + messages[0][1])
        num_places = len(names)
    if num_places != len(names):
        raise OddRow("image_count", f"{num_places} image placeholders ({IMAGE_TOKEN}), but {len(names)} images")
    images = [file.read_adjacent(str(name), ("", "images")) for name in names]
    meta: dict[str, Any] = {"origin": origin}
    if names:
        meta["addresses"] = [str(name) for name in names]
    return Sample(key="", source=file.source, parts=chat_parts(messages, clean), images=images, meta=meta)


def chat_parts(messages: list[tuple[str, list[str]]], clean: Clean) -> list[Part]:
    """Convert a conversation to parts.

    Args:
        messages: role, and the texts separated by images (one image fewer than texts).
        clean: applied to each text.
    """
    parts: list[Part] = []
    num_images = 0
    for role, texts in messages:
        learnt = role == "assistant"
        parts.append(TextPart(f"{TURN_START}{role}\n", loss=False))
        for number, text in enumerate(map(clean, texts)):
            if number:
                parts.append(ImagePart(num_images))
                num_images += 1
            last = number == len(texts) - 1
            ending = "" if not last else TURN_END if learnt else f"{TURN_END}\n"
            if text or ending:
                parts.append(TextPart(text + ending, loss=learnt))
        if learnt:
            parts.append(TextPart("\n", loss=False))
    return parts


def _role(turn: dict[str, Any]) -> str:
    role = ROLES.get(str(turn.get("from")))
    if role is None:
        raise OddRow("unknown_speaker", f"expected one of {', '.join(ROLES)} in 'from', got {turn.get('from')!r}")
    return role
