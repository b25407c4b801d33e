"""Routes that describe the server: models, health, limits, metrics, examples. None waits for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mm1.data.images import data_url
from mm1.serve.api.service import Service
from mm1.serve.load import Example

READ = ["GET", "HEAD"]


def info_routes(service: Service, examples: Sequence[Example], needs_key: bool) -> APIRouter:
    """Create the routes.

    Args:
        service: answers requests.
        examples: example questions of the chat page.
        needs_key: whether requests for answers need an API key.
    """
    router = APIRouter()
    listed = [{"question": example.question, "image": data_url(example.image)} for example in examples]
    release = {"version": version("mm1")}

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(service)]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return _model(service)

    @router.api_route("/healthz", methods=READ, response_model=None)
    async def healthz() -> Response:
        return _health(service)

    @router.api_route("/readyz", methods=READ, response_model=None)
    async def readyz() -> Response:
        service.answers.check_open()
        return _health(service)

    @router.api_route("/health", methods=READ, response_model=None)
    @router.api_route("/ping", methods=READ, response_model=None)
    async def health() -> Response:
        return Response(status_code=_health(service).status_code)

    @router.get("/version")
    async def release_version() -> dict[str, str]:
        return release

    @router.get("/limits")
    async def limits() -> dict[str, Any]:
        return _limits(service) | {"api_key": needs_key}

    @router.get("/metrics", response_model=None)
    async def metrics() -> Response:
        text, kind = service.metrics.text()
        return Response(text, headers={"Content-Type": kind})

    @router.get("/examples")
    async def list_examples() -> list[dict[str, str]]:
        return listed

    return router


def _model(service: Service) -> dict[str, Any]:
    name = service.settings.model_name
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "mm1",
        "root": service.settings.model_root or name,
        "parent": None,
        "max_model_len": service.prompts.context,
    }


def _limits(service: Service) -> dict[str, Any]:
    settings, max_tokens = service.settings, service.prompts.max_tokens
    return {
        "model": settings.model_name,
        "max_model_len": service.prompts.context,
        "max_tokens": max_tokens,
        "default_max_tokens": min(settings.default_max_tokens or max_tokens, max_tokens),
        "max_images": settings.max_images,
        "max_image_pixels": settings.max_image_pixels,
        "max_request_bytes": settings.max_request_bytes,
    }


def _health(service: Service) -> JSONResponse:
    is_alive = service.answers.is_alive
    status = "ok" if is_alive else "the engine has stopped; see the server's log"
    return JSONResponse({"status": status, "model": service.settings.model_name}, 200 if is_alive else 503)
