"""Prompts: messages or text -> token ids and images that fit the model's context.

Text that cannot fit, because it has more characters than the context's tokens can hold, is refused before it is tokenised. A
prompt whose tokens are only counted may be longer than the context: clients count to find out what they must cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mm1.errors import ConfigurationError, DataError
from mm1.generation.chat import chat_prompt
from mm1.generation.generator import Generator
from mm1.generation.prompt import Image, Message, Request, Segment, TokenIds
from mm1.generation.tiles import Tile
from mm1.modeling.stopping import num_token_ids
from mm1.serve.api.errors import ApiError, wrong
from mm1.serve.config import ServeSettings

UNLIMITED_CONTEXT = 1 << 20
"""Context of a decoder whose configuration has no limit, in tokens."""
COUNTED_CHARACTERS = 1 << 20
"""Maximum number of characters of a text that is only tokenised, if the context does not hold more."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt of any length."""

    request: Request
    num_tokens: int
    """Tokens, including those of images."""
    param: str
    """Field of the request that it comes from."""


class Prompts:
    """Renders and tokenises prompts; may be called from several threads.

    Args:
        generator: the model.
        settings: limits of an answer.

    Raises:
        ConfigurationError: the model's chat template is damaged, or leaves out images.
    """

    def __init__(self, generator: Generator, settings: ServeSettings) -> None:
        self._processor, self._encoder = generator.processor, generator.encoder
        self._settings = settings
        limit = getattr(generator.model.config.text_config, "max_position_embeddings", None)
        self.context = int(limit or UNLIMITED_CONTEXT)
        """Tokens of a prompt and its answer together."""
        self.num_token_ids = num_token_ids(self.tokenizer)
        self._longest_token = max(map(len, self.tokenizer.get_vocab()))
        self.max_tokens = min(settings.max_tokens or self.context, self.context)
        """Maximum number of new tokens of an answer."""
        turn = (Message("user", ("",)),)
        complete = sum(len(str(part)) for part in chat_prompt(self._processor, turn, complete=True))
        self._turn_header = tuple(str(part)[complete:] for part in chat_prompt(self._processor, turn))
        chat_prompt(self._processor, (Message("user", (b"",)),))  # a template without images is refused at once

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._processor.tokenizer

    @property
    def chat_template(self) -> str:
        """Jinja template of conversations."""
        return str(self._processor.chat_template)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids, special ones included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def ids_of(self, prompt: TokenizedPrompt) -> list[int]:
        """Return the token ids of a prompt; an image, or a tile, is `image_tokens` times the image token."""
        image = [int(self._processor.image_token_id)] * int(self._processor.image_tokens)
        parts = prompt.request.prompt
        return [token for part in parts for token in (part.ids if isinstance(part, TokenIds) else image)]

    def chat(
        self, messages: Sequence[Message], *, continues: bool = False, starts_turn: bool = True, counts: bool = False
    ) -> TokenizedPrompt:
        """Render a conversation with the model's template.

        Args:
            messages: the turns so far.
            continues: whether the answer continues the last message.
            starts_turn: otherwise, whether the prompt ends with the header of the assistant's turn.
            counts: whether its tokens are only counted.

        Raises:
            ApiError: it cannot fit the context, or the template refuses it.
        """
        parts = [part for message in messages for part in message.content]
        self._check_characters(parts, len(messages), "messages", counts)
        starts_after_assistant = starts_turn and not continues and messages[-1].role == "assistant"
        is_complete = starts_after_assistant or not (continues or starts_turn)
        try:
            prompt = chat_prompt(self._processor, messages, complete=is_complete)
        except ConfigurationError as error:
            raise ApiError(f"messages: {error}", "messages") from None
        return self._tokenized((*prompt, *self._turn_header) if starts_after_assistant else prompt, "messages")

    def decoded(self, prompt: TokenizedPrompt, paths: Sequence[str]) -> TokenizedPrompt:
        """Decode the images of a prompt here, and not between two tokens of the running answers.

        Args:
            prompt: the prompt.
            paths: field of each image, for error messages.

        Raises:
            ApiError: an image is damaged.
        """
        remaining, path = iter(paths), ""
        parts: list[Segment | TokenIds] = []
        for part in prompt.request.prompt:
            if not isinstance(part, bytes | Tile):
                parts.append(part)
                continue
            if isinstance(part, bytes) or not part.number:  # the first tile of an image
                path = next(remaining)
            parts.append(self._decoded(part, path))
        return replace(prompt, request=Request(tuple(parts)))

    def _decoded(self, image: bytes | Tile, path: str) -> Image:
        try:
            return self._encoder.decode_ahead(image)
        except DataError as error:
            raise ApiError(f"{path}: {error}", path, "invalid_image") from None

    def text(self, prompt: str | tuple[int, ...], path: str, *, counts: bool = False) -> TokenizedPrompt:
        """Tokenise raw text, in which special tokens are special, or check token ids. Nothing = the start of a document.

        Raises:
            ApiError: it cannot fit the context, or holds an image token or an id that the tokenizer does not have.
        """
        if not prompt:
            prompt = (int(self.tokenizer.eos_token_id),)
        if isinstance(prompt, str):
            self._check_characters([prompt], 0, path, counts)
            if self._processor.image_token in prompt:
                message = f"{path}: holds {self._processor.image_token}: send images to /v1/chat/completions"
                raise ApiError(message, path, "unsupported_value")
            return self._tokenized((prompt,), path)
        for number, token in enumerate(prompt):
            if not 0 <= token < self.num_token_ids or token == self._processor.image_token_id:
                expected = f"the id of a token of text, 0 to {self.num_token_ids - 1}"
                raise wrong(f"{path}[{number}]", expected, str(token)[:20])
        return self._tokenized((TokenIds(prompt),), path)

    def new_tokens(self, field: tuple[str, int | None], prompt: TokenizedPrompt, default: int | None = None) -> int:
        """Return the maximum length of an answer.

        Args:
            field: name and value of the field that limits it; None = the default.
            prompt: what the answer continues.
            default: the API's limit of an answer that the request does not limit; None = as long as it can be.

        Raises:
            ApiError: it does not fit the context, or exceeds the server's limit.
        """
        name, asked = field
        room = self.context - prompt.num_tokens
        if room < (asked is None):
            leaves = "" if room < 0 else ", which leaves none for the answer"
            raise self.too_long(f"the prompt has {prompt.num_tokens} tokens{leaves}", prompt.param)
        if asked is None:
            return min(default or self._settings.default_max_tokens or self.max_tokens, self.max_tokens, room)
        if asked > self.max_tokens and self.max_tokens < self.context:
            raise ApiError(f"{name}: expected at most {self.max_tokens}, this server's limit, got {asked}", name)
        if asked > room:
            details = f"{prompt.num_tokens} in the prompt, {asked} in the completion"
            raise self.too_long(f"you requested {prompt.num_tokens + asked} tokens ({details})", name)
        return asked

    def too_long(self, reason: str, param: str) -> ApiError:
        """Build the error of a context that is too long, in the words by which clients recognise it."""
        start = f"This model's maximum context length is {self.context} tokens"
        remedy = "Please reduce the length of the messages or completion"
        return ApiError(f"{start}. However, {reason}. {remedy}.", param, "context_length_exceeded")

    def _check_characters(self, parts: Sequence[Segment], num_turns: int, param: str, counts: bool) -> None:
        least = COUNTED_CHARACTERS if counts else 0
        num_characters = sum(len(part) for part in parts if isinstance(part, str))
        if num_characters > max(least, self.context * self._longest_token) or num_turns > max(least, self.context):
            raise self.too_long(f"the text has {num_characters} characters in {max(1, num_turns)} messages", param)

    def _tokenized(self, prompt: Sequence[Segment | TokenIds], param: str) -> TokenizedPrompt:
        try:
            divided = self._encoder.division(prompt).divided(prompt)
        except DataError as error:
            raise ApiError(f"{param}: {error}", param, "invalid_image") from None
        # Not by the encoder, whose cache would keep the texts of all requests.
        parts = [TokenIds(tuple(self._processor.encode(part))) if isinstance(part, str) else part for part in divided]
        image_tokens = int(self._processor.image_tokens)
        num_tokens = sum(len(part.ids) if isinstance(part, TokenIds) else image_tokens for part in parts)
        return TokenizedPrompt(Request(tuple(parts)), num_tokens, param)
