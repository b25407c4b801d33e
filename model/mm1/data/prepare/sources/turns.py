"""Turns of conversations, in all the forms in which data sets have them.

| form | a turn |
|---|---|
| LLaVA, ShareGPT | ``{"from": "human", "value": "<image> what is it ?"}`` |
| OpenAI, Hugging Face | ``{"role": "user", "content": "..."}``; the content may be a list of parts, text or images |
| the_cauldron | ``{"user": "...", "assistant": "..."}``: a question with its answer |
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mm1.data.chat import IMAGE_TOKEN
from mm1.data.prepare.files.raw import OddRow
from mm1.data.prepare.files.values import as_text, type_of

SPEAKERS = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Names of speakers, in lower case -> role."""
TOOLS = ("tool", "function", "function_call", "function_response", "tool_call", "tool_response", "observation", "ipython")
_SPEAKER_FIELDS, _CONTENT_FIELDS = ("from", "role", "speaker"), ("value", "content", "text")
_QUESTION_FIELDS, _ANSWER_FIELDS = ("user", "human"), ("assistant", "gpt")
_IMAGE_TYPES = ("image", "image_url", "input_image")
_TEXT_TYPES = ("text", "input_text", "output_text")


class Picture(NamedTuple):
    """An image in a turn."""

    value: Any = None
    """The image or its name; None = one of the row's images."""
    number: int | None = None
    """Index into the row's images; None = the next one."""
    is_token: bool = False
    """Whether it is the image token in a text, which may be ordinary text as well."""


class Turn(NamedTuple):
    """What one speaker says."""

    role: str
    pieces: list[str | Picture]


def turns_of(value: Any) -> list[Turn]:
    """Read the turns of a conversation.

    Raises:
        OddRow: not a conversation, an unknown speaker, or content that is neither text nor an image.
    """
    entries = _entries(value)
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise OddRow("no_conversation", f"expected a list of turns, got {type_of(value)}")
    return [turn for entry in entries for turn in _turns_of_entry(entry)]


def _entries(value: Any) -> list[Any]:
    """Return the entries of a conversation, also of one as JSON, or as a structure of lists (``Sequence`` in datasets)."""
    text = as_text(value)
    if text is not None and text.lstrip()[:1] == "[":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise OddRow("no_conversation", "expected a list of turns, got text that is not JSON") from None
    columns = list(value.values()) if isinstance(value, Mapping) else []
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, entry, strict=True)) for entry in zip(*columns, strict=True)]
    return value if isinstance(value, list) else []


def _turns_of_entry(entry: Mapping[str, Any]) -> Iterator[Turn]:
    speaker = _field(entry, _SPEAKER_FIELDS)
    if speaker is None:
        question, answer = _field(entry, _QUESTION_FIELDS), _field(entry, _ANSWER_FIELDS)
        if question is None and answer is None:
            raise OddRow("unknown_speaker", f"expected a turn with 'from' or 'role', got {type_of(entry)}")
        yield Turn("user", _pieces(question))
        yield Turn("assistant", _pieces(answer))
        return
    name = (as_text(speaker) or "").strip().lower()
    if name in TOOLS or entry.get("tool_calls"):
        raise OddRow("tool_turn", "turns with calls of tools are not supported")
    if name not in SPEAKERS:
        detail = repr(name[:40]) if name else type_of(speaker)
        raise OddRow("unknown_speaker", f"got {detail}, expected one of {', '.join(SPEAKERS)}")
    yield Turn(SPEAKERS[name], _pieces(_field(entry, _CONTENT_FIELDS)))


def _field(entry: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first of some fields that is set (all entries of a table have the same fields)."""
    return next((entry[name] for name in names if entry.get(name) is not None), None)


def _pieces(content: Any) -> list[str | Picture]:
    """Split the content of a turn into texts and images."""
    if content is None:
        return []
    if isinstance(content, list):
        return [piece for part in content for piece in _part(part)]
    text = as_text(content)
    if text is None:
        raise OddRow("turn_not_text", f"expected a text or a list of parts in a turn, got {type_of(content)}")
    first, *others = text.split(IMAGE_TOKEN)
    return [first, *(piece for other in others for piece in (Picture(is_token=True), other))]


def _part(part: Any) -> list[str | Picture]:
    """Read a part of a content: ``{"type": "text", "text": ...}`` or ``{"type": "image_url", "image_url": {"url": ...}}``."""
    if (text := as_text(part)) is not None:
        return [text]
    if not isinstance(part, Mapping):
        raise OddRow("turn_not_text", f"expected a part with a type, got {type_of(part)}")
    kind = as_text(part.get("type")) or next((name for name in ("text", *_IMAGE_TYPES) if part.get(name) is not None), "")
    if kind in _TEXT_TYPES:
        text = as_text(part.get("text"))
        if text is None:
            raise OddRow("turn_not_text", f"expected a text in a part of type {kind!r}, got {type_of(part.get('text'))}")
        return [text]
    if kind not in _IMAGE_TYPES:
        odd = "video_or_audio" if kind else "turn_not_text"
        raise OddRow(odd, f"expected a part with text or an image, got type {kind[:40]!r}")
    value = _field(part, (kind, "image", "image_url", "url", "path", "bytes"))
    if isinstance(value, Mapping) and "url" in value:
        value = value["url"]
    index = part.get("index")
    return [Picture(value, index if type(index) is int else None)]
