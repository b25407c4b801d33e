r"""Conversations as LLaVA has them: a JSON list of ``{"id", "image", "conversations": [{"from", "value"}]}`` and image files.

They become ChatML, exactly as MM1Processor's chat template writes it, with loss on the assistant's words and turn end only::

    <|im_start|>user\n [image] what is it ?<|im_end|>\n <|im_start|>assistant\n  a ring<|im_end|>  \n
    ------------------------------- no loss -----------------------------------  -----loss-----

Each piece is tokenised on its own, cut where the processor cuts too: after turn headers and at special tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.data.sources.raw import Clean, find_files, read_beside
from mm1.data.sources.text import json_rows
from mm1.data.tokenizer import IMAGE_TOKEN, TURN_END, TURN_START
from mm1.errors import DataError

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def read(path: Path, clean: Clean) -> Iterator[Sample]:
    """Read a JSON or jsonl file, or all of a folder; images are named relative to the file or to ``images`` beside it.

    Raises:
        DataError: a file is not JSON of this form, or an image is remote.
    """
    found = False
    for file in find_files(path, (".json", ".jsonl"), "LLaVA conversations"):
        for number, row in enumerate(_rows(file, alone=path.is_file())):
            found = True
            yield _sample(file, f"{file.name}:{number}", row, clean)
    if not found:
        raise DataError(f"{path}: no conversations in its JSON files")


def _rows(file: Path, *, alone: bool) -> Iterator[Any]:
    if file.suffix == ".jsonl":
        yield from json_rows(file)
        return
    try:
        tree = json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file}: not JSON in UTF-8 ({error})") from None
    if isinstance(tree, list):
        yield from tree
    elif alone:  # in a folder, other JSON files (statistics, licences) may lie beside
        raise DataError(f"{file}: not a list of conversations")


def _sample(file: Path, origin: str, row: Any, clean: Clean) -> Sample:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{origin}: no list 'conversations'")
    named = row.get("image") or []
    names = [named] if isinstance(named, str) else list(named)
    messages = [(_role(origin, turn), str(turn.get("value") or "").split(IMAGE_TOKEN)) for turn in turns]
    num_places = sum(len(pieces) - 1 for _, pieces in messages)
    if names and not num_places:
        messages[0] = (messages[0][0], [""] * len(names) + messages[0][1])
        num_places = len(names)
    if num_places != len(names):
        raise DataError(f"{origin}: {num_places} places for images ({IMAGE_TOKEN}), but {len(names)} images")
    images = [read_beside([file.parent, file.parent / "images"], str(name), origin) for name in names]
    meta: dict[str, Any] = {"origin": origin}
    if names:
        meta["addresses"] = [str(name) for name in names]
    return Sample(key="", source="instructions", parts=chat_parts(messages, clean), images=images, meta=meta)


def chat_parts(messages: list[tuple[str, list[str]]], clean: Clean) -> list[Part]:
    """The parts of a conversation.

    Args:
        messages: role, and the texts between which images stand (one image fewer than texts).
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


def _role(origin: str, turn: dict[str, Any]) -> str:
    role = ROLES.get(str(turn.get("from")))
    if role is None:
        raise DataError(f"{origin}: a turn is from {turn.get('from')!r}, not one of {', '.join(ROLES)}")
    return role
