"""The HTTP application: OpenAI-compatible API, health, metrics and the chat page.

    POST /v1/chat/completions, /v1/completions   -> mm1.serve.api.respond
    POST /tokenize, /detokenize
    GET  /v1/models, /healthz, /readyz, /metrics, /limits, /examples, / ...  -> mm1.serve.api.info

All endpoints run on the event loop and wait for answers without blocking it, so that none waits for another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from mm1.data.prepare.locations.fetch import Fetcher
from mm1.generation.engine import Engine
from mm1.serve import chat_page
from mm1.serve.api.errors import ApiError
from mm1.serve.api.info import info_routes
from mm1.serve.api.keys import ApiKeys
from mm1.serve.api.middleware import Authentication, BodyLimit, Counting, Faults
from mm1.serve.api.routes import answer_routes
from mm1.serve.api.service import Service
from mm1.serve.config import ServeSettings
from mm1.serve.load import Example


def create_app(
    engine: Engine,
    settings: ServeSettings,
    examples: Sequence[Example] = (),
    *,
    api_keys: Sequence[str] = (),
    fetcher: Fetcher | None = None,
) -> FastAPI:
    """Create the application of one model.

    Args:
        engine: generates the answers; the caller closes it.
        settings: limits and the model's name.
        examples: examples on the chat page.
        api_keys: keys of which a request needs one; empty = everybody may send requests.
        fetcher: fetches images from the allowed hosts.
    """
    keys = ApiKeys(api_keys)
    service = Service(engine, settings, fetcher)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="MM1", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.service = service
    # The last one is the outermost.
    app.add_middleware(Faults)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes, max_open_bytes=settings.max_open_bytes)
    app.add_middleware(Authentication, keys=keys)
    app.add_middleware(Counting, metrics=service.metrics)
    if settings.cors_origins:
        methods, exposed = ("GET", "HEAD", "POST"), ("Retry-After",)
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=methods,
            allow_headers=("*",),
            expose_headers=exposed,
        )
    _add_error_replies(app)
    for router in (answer_routes(service), info_routes(service, examples, keys.required), chat_page.router()):
        app.include_router(router)
    return app


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response(request.scope)

    @app.exception_handler(HTTPException)
    async def refused_by_framework(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path
        message = {404: f"unknown path {path[:200]}", 405: f"{request.method} is not allowed for {path[:200]}"}
        reply = ApiError(message.get(error.status_code, str(error.detail)), status=error.status_code).response(request.scope)
        reply.headers.update(error.headers or {})
        return reply
