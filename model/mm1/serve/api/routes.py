"""Routes of answers and tokens: chat completions, completions, tokenize, detokenize."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mm1.generation.engine import Ask
from mm1.generation.prompt import Message
from mm1.serve.api.body import kind_of
from mm1.serve.api.errors import ApiError, wrong
from mm1.serve.api.fields import AnswerFields, read_fields
from mm1.serve.api.messages import read_messages
from mm1.serve.api.prompts import TokenizedPrompt
from mm1.serve.api.replies import ChatReply, CompletionReply
from mm1.serve.api.requests import ChatFields, CompletionFields, read_chat_fields, read_completion, token_ids
from mm1.serve.api.requests import Prompt as CompletionPrompt
from mm1.serve.api.respond import Job, read_object, respond
from mm1.serve.api.service import Service

COMPLETION_MAX_TOKENS = 16
"""Maximum number of new tokens of a completion if the request sets none, as in OpenAI's API."""


def answer_routes(service: Service) -> APIRouter:
    """Create the routes of a service."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def chat_completions(request: Request) -> Response:
        return await respond(service, request, lambda body: _prepare_chat(service, body))

    @router.post("/v1/completions", response_model=None)
    async def completions(request: Request) -> Response:
        return await respond(service, request, lambda body: _prepare_completions(service, body))

    @router.post("/tokenize", response_model=None)
    async def tokenize(request: Request) -> Response:
        body = await read_object(service, request)
        return JSONResponse(await service.in_thread(_tokenize, service, body))

    @router.post("/detokenize", response_model=None)
    async def detokenize(request: Request) -> Response:
        body = await read_object(service, request)
        return JSONResponse(await service.in_thread(_detokenize, service, body))

    @router.get("/tokenizer_info", response_model=None)
    async def tokenizer_info() -> dict[str, Any]:
        tokenizer = service.prompts.tokenizer
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        specials = {name: getattr(tokenizer, name, None) for name in names}
        return {**specials, "tokenizer_class": type(tokenizer).__name__, "chat_template": service.prompts.chat_template}

    return router


# -- chat completions -------------------------------------------------------------------------------------------------


async def _prepare_chat(service: Service, body: dict[str, Any]) -> Job:
    fields, messages = await service.in_thread(_read_chat, service, body)
    messages = await service.with_images(messages)
    return await service.in_thread(_chat_job, service, fields, messages)


def _read_chat(service: Service, body: dict[str, Any]) -> tuple[ChatFields, list[Message]]:
    fields = read_chat_fields(body)
    service.check_model(fields.model)
    _check_choices(service, fields.n, "n")
    return fields, read_messages(body.get("messages"), service.settings)


def _chat_job(service: Service, fields: ChatFields, messages: list[Message]) -> Job:
    continues = fields.continues(messages[-1].role)
    prompt = service.prompts.chat(messages, continues=continues, starts_turn=fields.add_generation_prompt is not False)
    max_new_tokens = service.prompts.new_tokens(fields.max_new_tokens, prompt)
    prompt = service.prompts.decoded(prompt, _image_paths(messages))
    asks = _asks(fields, prompt, max_new_tokens, top_logprobs=fields.listed_logprobs, strip=not continues)
    reply = ChatReply(service.settings.model_name, fields.logprobs)
    return Job(asks, prompt.num_tokens, reply, fields.stream, fields.stream_options.include_usage)


def _image_paths(messages: list[Message]) -> list[str]:
    return [
        f"messages[{row}].content[{column}]"
        for row, message in enumerate(messages)
        for column, part in enumerate(message.content)
        if not isinstance(part, str)
    ]


def _asks(fields: AnswerFields, prompt: TokenizedPrompt, max_new_tokens: int, **others: Any) -> list[Ask]:
    """Build the `n` asks of a prompt."""
    return [
        Ask(
            request=prompt.request,
            max_new_tokens=max_new_tokens,
            stop=fields.stop,
            sampling=fields.sampling(number),
            **others,
        )
        for number in range(fields.n)
    ]


def _check_choices(service: Service, count: int, param: str) -> None:
    engine = service.engine.settings
    limit = min(service.settings.max_choices, engine.max_running + engine.max_waiting)
    if count > limit:
        raise ApiError(f"{param}: expected at most {limit} answers in a request, got {count}", param)


# -- completions ------------------------------------------------------------------------------------------------------


async def _prepare_completions(service: Service, body: dict[str, Any]) -> Job:
    return await service.in_thread(_completions_job, service, body)


def _completions_job(service: Service, body: dict[str, Any]) -> Job:
    fields, prompts = read_completion(body)
    service.check_model(fields.model)
    _check_choices(service, fields.n * len(prompts), "n" if len(prompts) == 1 else "prompt")
    asks: list[Ask] = []
    echoed: list[str] = []
    num_prompt_tokens = 0
    for number, prompt in enumerate(prompts):
        tokenized = service.prompts.text(prompt, "prompt" if len(prompts) == 1 else f"prompt[{number}]")
        num_prompt_tokens += tokenized.num_tokens
        options = {"top_logprobs": fields.logprobs, "prompt_logprobs": fields.echo and fields.logprobs is not None}
        limit = service.prompts.new_tokens(("max_tokens", fields.max_tokens), tokenized, COMPLETION_MAX_TOKENS)
        asks += _asks(fields, tokenized, limit, strip=False, **options)
        echoed += [_echo(service, fields, prompt)] * fields.n
    tokenizer = service.prompts.tokenizer
    reply = CompletionReply(service.settings.model_name, echoed, fields.logprobs is not None, tokenizer)
    return Job(asks, num_prompt_tokens, reply, fields.stream, fields.stream_options.include_usage)


def _echo(service: Service, fields: CompletionFields, prompt: CompletionPrompt) -> str:
    if not fields.echo:
        return ""
    return prompt if isinstance(prompt, str) else service.prompts.decode(prompt)


# -- tokens -----------------------------------------------------------------------------------------------------------


def _tokenize(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    service.check_model(body.get("model") or "")
    if body.get("messages") is not None:
        fields = read_fields(ChatFields, body)
        messages = read_messages(body["messages"], service.settings)
        starts_turn = fields.add_generation_prompt is not False
        continues = fields.continues(messages[-1].role)
        prompt = service.prompts.chat(messages, continues=continues, starts_turn=starts_turn, counts=True)
        ids = service.prompts.ids_of(prompt)
    else:
        text = body.get("prompt")
        if not isinstance(text, str):
            raise wrong("prompt", "text", kind_of(text))
        ids = service.prompts.ids_of(service.prompts.text(text, "prompt", counts=True)) if text else []
    tokens = service.prompts.tokenizer.convert_ids_to_tokens(ids) if body.get("return_token_strs") else None
    return {"count": len(ids), "max_model_len": service.prompts.context, "tokens": ids, "token_strs": tokens}


def _detokenize(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    service.check_model(body.get("model") or "")
    ids = token_ids(body.get("tokens"), "tokens")
    for number, token in enumerate(ids):
        if not 0 <= token < service.prompts.num_token_ids:
            raise wrong(f"tokens[{number}]", f"a token id, 0 to {service.prompts.num_token_ids - 1}", str(token)[:20])
    return {"prompt": service.prompts.decode(ids)}
