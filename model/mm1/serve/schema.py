"""Requests and replies of the chat completions API, as far as this server supports it.

Unsupported fields are ignored, except those that would change the answer, which are refused.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TextContent(BaseModel):
    """A text part of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """URL of an image; only `data:` URLs are supported."""

    url: str


class ImageContent(BaseModel):
    """An image part of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextContent | ImageContent]


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    n: Literal[1] = 1
    stop: str | list[str] = Field(default_factory=list, max_length=256)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def stops(self) -> list[str]:
        """The stop strings as a list, without empty ones."""
        return [text for text in ([self.stop] if isinstance(self.stop, str) else self.stop) if text]


class Reply:
    """Builds the bodies of one reply: whole, or chunk by chunk."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, finish_reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """Build one event of a stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def last_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Build the event that reports the usage."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def usage_of(num_prompt_tokens: int, num_new_tokens: int) -> dict[str, int]:
    """Build the token usage of a request."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_new_tokens,
        "total_tokens": num_prompt_tokens + num_new_tokens,
    }


def error_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Build the body of an error reply."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
