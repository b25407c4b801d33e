"""Rendering of conversations to prompts with the processor's chat template.

The template sets the positions of roles and images; this module splits its text at the image placeholders and inserts the
images. User text cannot forge a turn or an image: special tokens in it are broken up first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from mm1.data.chat import Document, answers_in
from mm1.errors import ConfigurationError
from mm1.generation.prompt import Message, Prompt, Segment
from mm1.modeling.tokenization import is_family_template, special_texts

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
    specials = [*special_texts(processor.tokenizer), processor.image_token]
    contents = [_parts(message.content, specials) for message in messages]
    if continues:
        contents[-1].append({"type": "text", "text": _END_OF_CONTENT})
    chat = [{"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)]
    text = _rendered(processor, chat, add_generation_prompt=not complete and not continues)
    if continues:
        text = text[: text.rindex(_END_OF_CONTENT)]
    pieces = (
        _pieces(processor, chat[:-1] if continues else chat, text) if is_family_template(processor.chat_template) else [text]
    )
    return _with_images(pieces, [image for message in messages for image in message.images], processor.image_token)


def _pieces(processor: Any, chat: Sequence[Mapping[str, Any]], text: str) -> list[str]:
    """Split a text where training does: around the answers so far, and where the next one begins."""
    image = processor.image_token
    turns = [{**message, "content": "".join(part.get("text", image) for part in message["content"])} for message in chat]
    ends = [token for token in special_texts(processor.tokenizer) if token != image]

    def render(messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> str:
        return _rendered(processor, messages, add_generation_prompt=add_generation_prompt)

    answers = answers_in(text, turns, render, ends)
    pieces = [piece for piece, _ in Document(text, tuple(answers)).pieces()]
    prompt = render(turns, True)
    rest = len(prompt) - len(text) + len(pieces[-1]) if pieces else 0
    if text.startswith(prompt) and 0 < rest < len(pieces[-1]):  # an unfinished answer
        pieces[-1:] = [pieces[-1][:rest], pieces[-1][rest:]]
    return pieces


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


def _with_images(pieces: Sequence[str], images: Sequence[Segment], image_token: str) -> Prompt:
    """Put the images in the places of image tokens."""
    num_places = sum(piece.count(image_token) for piece in pieces)
    if num_places != len(images):
        raise ConfigurationError(
            f"the model's chat template has places for {num_places} images of these messages, which have {len(images)}: "
            "use a template that shows images wherever they are"
        )
    following = iter(images)
    prompt: list[Segment] = []
    for piece in pieces:
        first, *others = piece.split(image_token)
        prompt += [first, *(segment for text in others for segment in (next(following), text))]
    return tuple(segment for segment in prompt if segment != "")


def without_specials(text: str, specials: Sequence[str]) -> str:
    """Break up special tokens in user text, so that they are tokenised as plain characters."""
    for token in specials:
        if token:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
