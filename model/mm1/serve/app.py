"""The HTTP application: chat completions with images, list of models, health, and the chat page.

    POST /v1/chat/completions   body -> checks -> conversation -> answer -> reply, whole or as server-sent events
    GET  /v1/models, /healthz, /examples, /

Endpoints are plain functions, which run in the framework's threads, so that they do not block the event loop.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from mm1.errors import Mm1Error
from mm1.generation.config import Sampling
from mm1.generation.prompt import Message, Segment
from mm1.serve import chat_page
from mm1.serve.chat import Chat, PartialAnswer
from mm1.serve.config import ServeSettings
from mm1.serve.images import BadRequest, image_from_uri
from mm1.serve.limits import BodyLimit
from mm1.serve.load import Example
from mm1.serve.schema import ChatMessage, ChatRequest, Reply, TextContent, error_body, usage_of

log = logging.getLogger(__name__)


def create_app(chat: Chat, settings: ServeSettings, examples: Sequence[Example] = ()) -> FastAPI:
    """Create the application of one model.

    Args:
        chat: answers conversations.
        settings: limits and the model's name.
        examples: examples on the chat page.
    """
    app = FastAPI(title="MM1", docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes)
    _add_error_replies(app)
    app.include_router(chat_page.router())

    @app.post("/v1/chat/completions", response_model=None)
    def chat_completions(body: ChatRequest) -> JSONResponse | StreamingResponse:
        return _complete(chat, settings, body)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        model = {"id": settings.model_name, "object": "model", "created": 0, "owned_by": "mm1"}
        return {"object": "list", "data": [model]}

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok", "model": settings.model_name}

    @app.get("/examples")
    def list_examples() -> list[dict[str, str]]:
        return [{"question": example.question, "image": _data_uri(example.image)} for example in examples]

    return app


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


# -- chat ---------------------------------------------------------------------------------------------------------------


def _complete(chat: Chat, settings: ServeSettings, body: ChatRequest) -> JSONResponse | StreamingResponse:
    if body.model not in (None, "", settings.model_name):
        message = f"unknown model {body.model!r}: this server has {settings.model_name!r}"
        raise BadRequest(message, "model", "model_not_found", status=404)
    max_new_tokens = body.max_completion_tokens or body.max_tokens or settings.default_max_tokens
    if max_new_tokens > settings.max_tokens:
        raise BadRequest(f"expected at most {settings.max_tokens} tokens, got {max_new_tokens}", "max_tokens")
    messages = _conversation(body.messages, settings)
    request, num_prompt_tokens = chat.prepare(messages, max_new_tokens)
    sampling = Sampling(temperature=body.temperature, top_p=body.top_p, seed=body.seed)
    steps = chat.answer(request, max_new_tokens=max_new_tokens, stop=body.stops, sampling=sampling)
    # The first token is generated before anything is sent, so that a damaged image still gets an error reply.
    steps = chain([next(steps)], steps)
    reply = Reply(settings.model_name)
    if body.stream:
        events = _events(reply, steps, num_prompt_tokens, body.stream_options.include_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    *_, last = steps
    usage = usage_of(num_prompt_tokens, last.num_tokens)
    return JSONResponse(reply.whole(last.text, str(last.finish_reason), usage))


def _events(reply: Reply, steps: Iterator[PartialAnswer], num_prompt_tokens: int, include_usage: bool) -> Iterator[str]:
    yield _event(reply.chunk({"role": "assistant", "content": ""}))
    sent = ""
    num_tokens = 0
    for step in steps:
        num_tokens = step.num_tokens
        if step.text != sent:
            yield _event(reply.chunk({"content": step.text[len(sent) :]}))
            sent = step.text
        if step.finish_reason:
            yield _event(reply.chunk({}, step.finish_reason))
    if include_usage:
        yield _event(reply.last_chunk(usage_of(num_prompt_tokens, num_tokens)))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _conversation(messages: Sequence[ChatMessage], settings: ServeSettings) -> list[Message]:
    turns = []
    num_images = 0
    for row, message in enumerate(messages):
        if isinstance(message.content, str):
            turns.append(Message(message.role, (message.content,)))
            continue
        content: list[Segment] = []
        for column, part in enumerate(message.content):
            if isinstance(part, TextContent):
                content.append(part.text)
                continue
            num_images += 1
            param = f"messages.{row}.content.{column}.image_url"
            if num_images > settings.max_images:
                raise BadRequest(f"expected at most {settings.max_images} images in a request", param, "too_many_images")
            content.append(image_from_uri(part.image_url.url, param, settings))
        turns.append(Message(message.role, tuple(content)))
    return turns


# -- errors -------------------------------------------------------------------------------------------------------------


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(BadRequest)
    def bad_request(request: Request, error: BadRequest) -> JSONResponse:
        return JSONResponse(error_body(str(error), param=error.param, code=error.code), status_code=error.status)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"] if part != "body") or None
        return JSONResponse(error_body(f"{param or 'body'}: {first['msg']}", param=param), status_code=400)

    @app.exception_handler(Mm1Error)
    def unfit(request: Request, error: Mm1Error) -> JSONResponse:
        return JSONResponse(error_body(str(error)), status_code=400)

    @app.exception_handler(HTTPException)
    def refused_by_framework(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), status_code=error.status_code)

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return JSONResponse(error_body("internal server error; see the server's log", "server_error"), status_code=500)
