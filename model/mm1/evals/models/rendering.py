"""Prompts as texts and images for a processor of transformers.

Each family marks an image in its own way: LLaVA with ``<image>``, Qwen-VL with ``<|image_pad|>`` between two marks, Gemma with
the beginning of an image. The processor replaces the mark by as many tokens as the image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mm1.errors import ConfigurationError
from mm1.evals.models.base import joined
from mm1.generation.chat import without_specials
from mm1.generation.prompt import AnyPrompt, Conversation, Image, Message

_BEFORE, _AFTER = "before it", "after it"


@dataclass(frozen=True)
class Rendered:
    """A prompt for a processor."""

    text: str
    images: tuple[Image, ...]

    def continued(self, continuation: str) -> str:
        """Return the text with a continuation; separated by a space, unless one of them or a special token separates them."""
        joint = "" if self.text[-1:].isspace() or continuation[:1].isspace() or self.text[-1:] in "|>]" else " "
        return self.text + joint + continuation


class Renderer:
    """Renders prompts for a processor.

    Args:
        processor: a processor of transformers.
        name: name of the model, for messages.
    """

    def __init__(self, processor: Any, name: str) -> None:
        self.processor = processor
        self.name = name
        tokens = [processor.tokenizer.all_special_tokens, [getattr(processor, "image_token", None)]]
        tokens.append([getattr(processor, "boi_token", None)])
        self._specials = list(dict.fromkeys(str(token) for some in tokens for token in some if token))

    def __call__(self, ask: AnyPrompt) -> Rendered:
        """Render a prompt or a conversation.

        Raises:
            ConfigurationError: the model has no chat template, or takes no images.
        """
        return self._conversation(ask) if isinstance(ask, Conversation) else self._plain(joined(ask.segments))

    def _plain(self, pieces: Sequence[str | Image]) -> Rendered:
        texts = [without_specials(piece, self._specials) if isinstance(piece, str) else self.image_mark for piece in pieces]
        return Rendered("".join(texts), tuple(piece for piece in pieces if not isinstance(piece, str)))

    def _conversation(self, ask: Conversation) -> Rendered:
        messages = [*ask.prefix, *ask.messages]
        images = tuple(image for message in messages for image in message.images)
        return Rendered(self._template([self._turn(message) for message in messages]), images)

    def _turn(self, message: Message) -> dict[str, Any]:
        content = [
            {"type": "text", "text": without_specials(part, self._specials)} if isinstance(part, str) else {"type": "image"}
            for part in message.content
        ]
        return {"role": message.role, "content": content}

    def _template(self, turns: Sequence[dict[str, Any]]) -> str:
        if not getattr(self.processor, "chat_template", None):
            raise ConfigurationError(f"{self.name} has no chat template: evaluate it in the plain style (--style plain)")
        return str(self.processor.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False))

    @cached_property
    def image_mark(self) -> str:
        """The mark of an image in a plain prompt: what the chat template writes for one, or the processor's own token.

        Raises:
            ConfigurationError: the processor has none.
        """
        token, start = (getattr(self.processor, name, None) for name in ("image_token", "boi_token"))
        if getattr(self.processor, "chat_template", None):
            parts = [{"type": "text", "text": _BEFORE}, {"type": "image"}, {"type": "text", "text": _AFTER}]
            text = self._template([{"role": "user", "content": parts}])
            mark = text.partition(_BEFORE)[2].partition(_AFTER)[0].strip()
            if any(each and str(each) in mark for each in (token, start)):
                return mark
        if not (token or start):
            raise ConfigurationError(f"{self.name}: its processor has no token for an image, so prompts cannot have images")
        around = [getattr(self.processor, name, "") for name in ("vision_start_token", "vision_end_token")]
        return f"{around[0]}{start or token}{around[1]}"
