r"""Conversations in LLaVA's format: ``llava_instruct.json`` and the images that it names.

The file is a list of ``{"id", "image": "images/<id>.jpg", "conversations": [{"from": "human", "value": "<image>\\n..."},
{"from": "gpt", "value": "..."}, ...]}``. Conversations with several images have a list of names in ``image``, in the order of
their placeholders; those without an image lack the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

IMAGE_TOKEN = "<image>"
"""LLaVA's image placeholder in conversations."""


class Turn(NamedTuple):
    """A question and its answer, and the number of images before the question."""

    question: str
    answer: str
    num_images: int = 0


class Chat(NamedTuple):
    """A conversation; its images are given when it is written."""

    turns: tuple[Turn, ...]

    @property
    def num_images(self) -> int:
        """Number of images of all turns."""
        return sum(turn.num_images for turn in self.turns)


def about_image(pairs: Sequence[tuple[str, str]]) -> Chat:
    """Return a conversation about one image, shown before the first of some questions with answers."""
    return Chat(tuple(Turn(question, answer, int(number == 0)) for number, (question, answer) in enumerate(pairs)))


def write_chats(folder: Path, chats: Sequence[Chat], images: Iterable[bytes]) -> None:
    """Write conversations into an existing folder.

    Args:
        folder: output folder.
        chats: the conversations.
        images: encoded images of all conversations, in order.
    """
    (folder / "images").mkdir()
    remaining = iter(images)
    items: list[dict[str, object]] = []
    for number, chat in enumerate(chats):
        key = f"{number:09d}"
        names = [f"images/{key}.jpg"] if chat.num_images == 1 else [f"images/{key}_{k}.jpg" for k in range(chat.num_images)]
        for name in names:
            (folder / name).write_bytes(next(remaining))
        image = {"image": names[0] if len(names) == 1 else names} if names else {}
        items.append({"id": key, **image, "conversations": _messages(chat)})
    (folder / "llava_instruct.json").write_text(json.dumps(items, indent=1))


def _messages(chat: Chat) -> list[dict[str, str]]:
    messages = []
    for question, answer, num_images in chat.turns:
        messages.append({"from": "human", "value": f"{IMAGE_TOKEN}\n" * num_images + question})
        messages.append({"from": "gpt", "value": answer})
    return messages
