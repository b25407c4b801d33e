"""Replies of the two APIs: whole, or as server-sent events, with log-probabilities in the form of each API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from mm1.generation.engine import Step, TokenLogprob
from mm1.serve.api.offsets import TextOffsets

DONE = "data: [DONE]\n\n"
LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have."""


class Reply(Protocol):
    """Builds the bodies of one reply."""

    def whole(self, steps: Sequence[Step], usage: dict[str, int]) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""

    def first_chunks(self, count: int) -> list[dict[str, Any]]:
        """Build the events before the first token."""

    def chunk(self, number: int, step: Step, previous: Step | None) -> dict[str, Any] | None:
        """Build the event of a step of an answer; None if nothing is new."""

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Build the event that reports the usage."""


class ChatReply:
    """Replies of chat completions.

    Args:
        model: name of the model.
        with_logprobs: whether log-probabilities were requested.
    """

    def __init__(self, model: str, with_logprobs: bool) -> None:
        self._head = _head("chatcmpl", model)
        self._with_logprobs = with_logprobs

    def whole(self, steps: Sequence[Step], usage: dict[str, int]) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": step.text},
                "logprobs": self._logprobs(_of_text(step)),
                "finish_reason": step.finish_reason,
            }
            for number, step in enumerate(steps)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage}

    def first_chunks(self, count: int) -> list[dict[str, Any]]:
        """Build the events with the role of each answer."""
        return [self._chunk(number, {"role": "assistant", "content": ""}, None, None) for number in range(count)]

    def chunk(self, number: int, step: Step, previous: Step | None) -> dict[str, Any] | None:
        """Build the event of a step of an answer; None if nothing is new."""
        text = step.text[len(previous.text) if previous else 0 :]
        logprobs = _of_text(step)[len(previous.logprobs) if previous else 0 :]
        if not (text or logprobs or step.finish_reason):
            return None
        delta = {"content": text} if text or logprobs else {}
        return self._chunk(number, delta, step.finish_reason, self._logprobs(logprobs) if logprobs else None)

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Build the event that reports the usage."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, number: int, delta: dict[str, str], finish_reason: str | None, logprobs: Any) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self._with_logprobs:
            return None
        content = [_named(token) | {"top_logprobs": [_named(other) for other in token.top]} for token in tokens]
        return {"content": content, "refusal": None}


class CompletionReply:
    """Replies of completions. Their log-probabilities include the stop token's: harnesses drop the last one.

    Args:
        model: name of the model.
        prompts: text of the prompt of each answer that echoes it; else empty.
        with_logprobs: whether log-probabilities were requested.
        tokenizer: decodes ids to text.
    """

    def __init__(self, model: str, prompts: Sequence[str], with_logprobs: bool, tokenizer: Any) -> None:
        self._head = _head("cmpl", model)
        self._prompts = prompts
        self._offsets = [TextOffsets(tokenizer, prompt) for prompt in prompts] if with_logprobs else []
        self._with_logprobs = with_logprobs

    def whole(self, steps: Sequence[Step], usage: dict[str, int]) -> dict[str, Any]:
        """Build the body of a reply that is not streamed."""
        choices = [self._choice(number, self._prompts[number] + step.text, step, None) for number, step in enumerate(steps)]
        return {**self._head, "object": "text_completion", "choices": choices, "usage": usage}

    def first_chunks(self, count: int) -> list[dict[str, Any]]:
        """Build no events: the prompt is part of the first step's."""
        return []

    def chunk(self, number: int, step: Step, previous: Step | None) -> dict[str, Any] | None:
        """Build the event of a step of an answer; None if nothing is new."""
        sent_text = 0 if previous is None else len(self._prompts[number] + previous.text)
        text = (self._prompts[number] + step.text)[sent_text:]
        num_tokens = 0 if previous is None else len(previous.logprobs)
        if not (text or step.logprobs[num_tokens:] or step.finish_reason):
            return None
        return {**self._head, "object": "text_completion", "choices": [self._choice(number, text, step, previous)]}

    def usage_chunk(self, usage: dict[str, int]) -> dict[str, Any]:
        """Build the event that reports the usage."""
        return {**self._head, "object": "text_completion", "choices": [], "usage": usage}

    def _choice(self, number: int, text: str, step: Step, previous: Step | None) -> dict[str, Any]:
        logprobs = self._columns(number, step, previous) if self._with_logprobs else None
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": step.finish_reason}

    def _columns(self, number: int, step: Step, previous: Step | None) -> dict[str, Any]:
        """Write new log-probabilities as lists, one entry per token; where nothing predicts a token, null."""
        prompt = step.prompt_logprobs if previous is None else ()
        answer = step.logprobs[0 if previous is None else len(previous.logprobs) :]
        tokens = (*prompt, *answer)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [None if token.logprob is None else _finite(token.logprob) for token in tokens],
            "top_logprobs": [None if token.logprob is None else _top(token) for token in tokens],
            "text_offset": self._offsets[number].of_prompt(prompt) + self._offsets[number].of_answer(answer),
        }


def _top(token: TokenLogprob) -> dict[str, float]:
    """Map the likeliest tokens and the chosen one to log-probabilities; of two tokens with one text, the second has its id."""
    top: dict[str, float] = {}
    listed = {other.token: other for other in (*token.top, token)}
    for other in listed.values():
        top[f"token_id:{other.token}" if other.text in top else other.text] = _finite(other.logprob)
    return top


def _of_text(step: Step) -> Sequence[TokenLogprob]:
    """Return the log-probabilities without that of the stop token, which chat completions do not list."""
    return step.logprobs[: step.num_tokens]


def _named(token: TokenLogprob) -> dict[str, Any]:
    is_whole = "\ufffd" not in token.text
    return {
        "token": token.text,
        "logprob": _finite(token.logprob),
        "bytes": list(token.text.encode()) if is_whole else None,
    }


def _finite(logprob: float | None) -> float:
    return LEAST_LOGPROB if logprob is None else max(logprob, LEAST_LOGPROB)


def usage_of(num_prompt_tokens: int, steps: Sequence[Step | None]) -> dict[str, int]:
    """Build the token usage of a request."""
    num_new_tokens = sum(step.num_tokens for step in steps if step)
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_new_tokens,
        "total_tokens": num_prompt_tokens + num_new_tokens,
    }


def event(body: dict[str, Any]) -> str:
    """Write a server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _head(prefix: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
