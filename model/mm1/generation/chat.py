"""Rendering of conversations to prompts with the processor's chat template.

The template sets the positions of roles and images; this module splits its text at the image placeholders and inserts the
images. User text cannot forge a turn or an image: special tokens in it are broken up first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mm1.errors import ConfigurationError
from mm1.generation.prompt import Message, Prompt, Segment

_END_OF_CONTENT = "\ue0ffend of content\ue0ff"
"""Marks where an unfinished turn goes on; private characters, of which only the last occurrence counts."""


def chat_prompt(processor: Any, messages: Sequence[Message], *, complete: bool = False) -> Prompt:
    """Render a conversation.

    Args:
        processor: an `MM1Processor`.
        messages: the turns so far.
        complete: whether to end with the last turn. By default the prompt ends where the assistant's answer goes on: within
            the last turn if that is the assistant's, after the header of a new turn otherwise.

    Raises:
        ConfigurationError: the template is damaged, refuses these messages, or leaves out their images.
    """
    continues = not complete and bool(messages) and messages[-1].role == "assistant"
    specials = [*map(str, processor.tokenizer.all_special_tokens), processor.image_token]
    contents = [_parts(message.content, specials) for message in messages]
    if continues:
        contents[-1].append({"type": "text", "text": _END_OF_CONTENT})
    chat = [{"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)]
    text = _rendered(processor, chat, add_generation_prompt=not complete and not continues)
    if continues:
        text = text[: text.rindex(_END_OF_CONTENT)]
    return _with_images(text.split(processor.image_token), [image for message in messages for image in message.images])


def _parts(content: Prompt, specials: Sequence[str]) -> list[dict[str, str]]:
    """Convert the content of a message to what chat templates take.

    Adjacent texts become one before special tokens are broken up: their halves would meet in the template's output.
    """
    parts: list[dict[str, str]] = []
    for is_text, run in groupby(content, lambda part: isinstance(part, str)):
        if is_text:
            parts.append({"type": "text", "text": without_specials("".join(map(str, run)), specials)})
        else:
            parts += [{"type": "image"} for _ in run]
    return parts


def _rendered(processor: Any, chat: Sequence[Any], **options: bool) -> str:
    from jinja2 import TemplateError

    try:
        return str(processor.apply_chat_template(chat, tokenize=False, **options))
    except TemplateError as error:
        raise ConfigurationError(f"the model's chat template cannot render these messages: {error}") from None


def _with_images(texts: Sequence[str], images: Sequence[Segment]) -> Prompt:
    """Put the images between the texts."""
    if len(texts) != len(images) + 1:
        raise ConfigurationError(
            f"the model's chat template has places for {len(texts) - 1} images of these messages, which have {len(images)}: "
            "use a template that shows images wherever they are"
        )
    prompt = [texts[0]]
    for image, text in zip(images, texts[1:], strict=True):
        prompt += [image, text]  # type: ignore[list-item]
    return tuple(segment for segment in prompt if segment != "")


def without_specials(text: str, specials: Sequence[str]) -> str:
    """Break up special tokens in user text, so that they are tokenised as plain characters."""
    for token in specials:
        if token:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
