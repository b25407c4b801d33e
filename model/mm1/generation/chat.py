"""Rendering of conversations to prompts with the processor's chat template.

The template sets the positions of roles and images; this module splits its text at the image placeholders and inserts the
images. User text cannot forge a turn or an image: special tokens in it are broken up first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    """
    continues = not complete and bool(messages) and messages[-1].role == "assistant"
    specials = [str(token) for token in processor.tokenizer.all_special_tokens]
    turns = [(message.role, [_item(part, specials) for part in message.content]) for message in messages]
    if continues:
        turns[-1][1].append({"type": "text", "text": _END_OF_CONTENT})
    chat = [{"role": role, "content": content} for role, content in turns]
    text = processor.apply_chat_template(chat, add_generation_prompt=not complete and not continues, tokenize=False)
    if continues:
        text = text[: text.rindex(_END_OF_CONTENT)]
    images = iter([part for message in messages for part in message.content if not isinstance(part, str)])
    prompt: list[Segment] = []
    for number, piece in enumerate(text.split(processor.image_token)):
        if number:
            prompt.append(next(images))
        if piece:
            prompt.append(piece)
    return tuple(prompt)


def _item(part: Segment, specials: Sequence[str]) -> Mapping[str, str]:
    return {"type": "text", "text": without_specials(part, specials)} if isinstance(part, str) else {"type": "image"}


def without_specials(text: str, specials: Sequence[str]) -> str:
    """Break up special tokens in user text, so that they are tokenised as plain characters."""
    for token in specials:
        if token:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
