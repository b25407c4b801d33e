"""Messages of a chat request: JSON -> turns with texts and images. Errors name the part: ``messages[1].content[0]``.

::

    system, developer   the system turn
    user, assistant     texts and images; an assistant's turn may be empty
    tool, function      refused, as are tool calls: the model was not trained with tools
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mm1.config.values import quoted
from mm1.generation.prompt import Message, Segment
from mm1.serve.api.body import kind_of
from mm1.serve.api.errors import ApiError, wrong
from mm1.serve.api.images import image_of
from mm1.serve.config import ServeSettings

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TOOL_ROLES = ("tool", "function")
OTHER_SPELLINGS = {"input_text": "text", "output_text": "text", "input_image": "image_url", "image": "image_url"}
"""Part types of other APIs -> those of chat completions."""
NO_TOOLS = "this model was not trained with tools; send the text as a message of the user"

ReadImage = Callable[[str, str], Segment]
"""URL and path of an image -> the image."""


def read_messages(value: Any, settings: ServeSettings) -> list[Message]:
    """Read the messages of a request.

    Raises:
        ApiError: a message, a part or an image cannot be used.
    """
    if not isinstance(value, list):
        raise wrong("messages", "a list of messages", kind_of(value))
    if not value:
        raise ApiError("messages: expected at least one message, got an empty list", "messages")
    num_images = 0

    def read_image(url: str, path: str) -> Segment:
        nonlocal num_images
        num_images += 1
        if num_images > settings.max_images:
            message = f"{path}: expected at most {settings.max_images} images in a request: remove some"
            raise ApiError(message, path, "too_many_images")
        return image_of(url, path, settings)

    return [_message(item, f"messages[{row}]", read_image) for row, item in enumerate(value)]


def _message(value: Any, path: str, read_image: ReadImage) -> Message:
    if not isinstance(value, dict):
        raise wrong(path, "an object with role and content", kind_of(value))
    role = _role(value.get("role"), f"{path}.role")
    for name in ("tool_calls", "function_call", "audio"):
        if value.get(name):
            raise ApiError(f"{path}.{name}: not supported: {NO_TOOLS}", f"{path}.{name}", "unsupported_value")
    content = value.get("content")
    if content is None and role == "assistant":
        return Message(role, ())
    if isinstance(content, str):
        return Message(role, (content,))
    if not isinstance(content, list):
        raise wrong(f"{path}.content", "text or a list of parts", kind_of(content))
    return Message(role, tuple(_part(part, f"{path}.content[{column}]", read_image) for column, part in enumerate(content)))


def _role(value: Any, path: str) -> str:
    if isinstance(value, str) and value in TOOL_ROLES:
        raise ApiError(f"{path}: {value!r} is not supported: {NO_TOOLS}", path, "unsupported_value")
    if not isinstance(value, str) or value not in ROLES:
        raise wrong(path, f"one of {', '.join(ROLES)}", quoted(value) if isinstance(value, str) else kind_of(value))
    return ROLES[value]


def _part(value: Any, path: str, read_image: ReadImage) -> Segment:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise wrong(path, "text or an object with a type", kind_of(value))
    kind = value.get("type")
    if kind in ("text", "refusal"):
        text = value.get(kind)
        if not isinstance(text, str):
            raise wrong(f"{path}.{kind}", "text", kind_of(text))
        return text
    if kind == "image_url":
        return _image(value.get("image_url"), f"{path}.image_url", read_image)
    actual = quoted(kind) if isinstance(kind, str) else kind_of(kind)
    hint = f": write {OTHER_SPELLINGS[kind]!r}" if isinstance(kind, str) and kind in OTHER_SPELLINGS else ""
    raise ApiError(f"{path}.type: expected 'text' or 'image_url', got {actual}{hint}", f"{path}.type", "unsupported_value")


def _image(value: Any, path: str, read_image: ReadImage) -> Segment:
    if isinstance(value, dict):
        value, path = value.get("url"), f"{path}.url"
    if not isinstance(value, str):
        raise wrong(path, "a URL", kind_of(value))
    return read_image(value, path)
