"""Requests for answers: the bodies of POST /v1/chat/completions and POST /v1/completions."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mm1.serve.api.body import kind_of
from mm1.serve.api.errors import ApiError, wrong
from mm1.serve.api.fields import AnswerFields, read_fields
from mm1.serve.api.unsupported import CHAT, COMPLETIONS, refuse_unsupported

MAX_TOP_LOGPROBS = 20


class ChatFields(AnswerFields):
    """Fields of a chat request, except its messages."""

    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @property
    def max_new_tokens(self) -> tuple[str, int | None]:
        """The field that limits the answer, and its value; `max_completion_tokens` comes first."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    @property
    def listed_logprobs(self) -> int | None:
        """Number of likeliest tokens to list; None = no log-probabilities."""
        return self.top_logprobs if self.logprobs else None

    def continues(self, last_role: str) -> bool:
        """Whether the answer continues the last message instead of starting a turn.

        Raises:
            ApiError: the two fields contradict each other or the last message.
        """
        if self.continue_final_message and self.add_generation_prompt:
            message = "set either continue_final_message or add_generation_prompt"
            raise ApiError(f"continue_final_message: {message}", "continue_final_message")
        if self.continue_final_message and last_role != "assistant":
            message = f"the last message must be the assistant's, got one of role {last_role}"
            raise ApiError(f"continue_final_message: {message}", "continue_final_message")
        if last_role != "assistant":
            return False
        return self.continue_final_message is not False and self.add_generation_prompt is not True


def read_chat_fields(body: dict[str, Any]) -> ChatFields:
    """Read the fields of a chat request, except its messages.

    Raises:
        ApiError: a field is wrong or not supported.
    """
    refuse_unsupported(body, CHAT)
    fields = read_fields(ChatFields, body)
    name, limit = fields.max_new_tokens
    if limit is not None and limit < 1:
        raise wrong(name, "at least 1", str(limit))
    if fields.top_logprobs and not fields.logprobs:
        raise ApiError("top_logprobs: needs logprobs: true", "top_logprobs")
    return fields


class CompletionFields(AnswerFields):
    """Fields of a completion request, except its prompts."""

    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)


Prompt = str | tuple[int, ...]
"""Text, or token ids."""


def read_completion(body: dict[str, Any]) -> tuple[CompletionFields, list[Prompt]]:
    """Read a completion request: its fields, and one prompt or more.

    Raises:
        ApiError: a field is wrong or not supported.
    """
    refuse_unsupported(body, COMPLETIONS)
    if body.get("logprobs") is False:  # of chat completions
        body = body | {"logprobs": None}
    fields = read_fields(CompletionFields, body)
    if fields.max_tokens is not None and fields.max_tokens < 0:
        raise wrong("max_tokens", "at least 0", str(fields.max_tokens))
    return fields, _prompts(body.get("prompt"))


def _prompts(value: Any) -> list[Prompt]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise wrong("prompt", "text, token ids, or a list of these", kind_of(value))
    if value and _is_token_id(value[0]):
        return [token_ids(value, "prompt")]
    prompts: list[Prompt] = []
    for number, item in enumerate(value):
        if isinstance(item, str):
            prompts.append(item)
        elif isinstance(item, list):
            prompts.append(token_ids(item, f"prompt[{number}]"))
        else:
            raise wrong(f"prompt[{number}]", "text or a list of token ids", kind_of(item))
    if not prompts:
        raise ApiError("prompt: expected at least one prompt, got an empty list", "prompt")
    return prompts


def token_ids(value: Any, path: str) -> tuple[int, ...]:
    """Read a list of token ids.

    Raises:
        ApiError: it is not a list of integers.
    """
    if not isinstance(value, list):
        raise wrong(path, "a list of token ids", kind_of(value))
    for number, item in enumerate(value):
        if not _is_token_id(item):
            raise wrong(f"{path}[{number}]", "a token id", kind_of(item))
    return tuple(value)


def _is_token_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
