"""A tiny random model behind the real server, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from mm1.generation.config import EngineSettings
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.load import Example
from mm1.serve.server import running
from tests.support.tiny_mm1 import picture, tiny_mm1

SETTINGS = {
    "model_name": "tiny",
    "max_request_bytes": 200_000,
    "max_tokens": 40,
    "default_max_tokens": 12,
    "max_images": 3,
    "max_image_pixels": 70 * 70,
}


@pytest.fixture(scope="session")
def generator() -> Generator:
    return Generator(*tiny_mm1())


@pytest.fixture(scope="session")
def engine(generator) -> Iterator[Engine]:
    engine = Engine(generator)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def client(engine) -> Iterator[httpx.Client]:
    """A client of a server with one example question."""
    app = create_app(engine, ServeSettings(**SETTINGS), [Example("what is this ?", picture(1))])
    with running(app) as address, httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def serve(generator) -> Iterator[Callable[..., httpx.Client]]:
    """Starts servers with other settings; gives a client of each."""
    with ExitStack() as stack:

        def start(engine_settings: dict[str, Any] | None = None, app: dict[str, Any] | None = None, **settings: Any):
            engine = Engine(generator, EngineSettings(**(engine_settings or {})))
            stack.callback(engine.close)
            application = create_app(engine, ServeSettings(**{**SETTINGS, **settings}), **(app or {}))
            address = stack.enter_context(running(application))
            client = stack.enter_context(httpx.Client(base_url=address, timeout=60, trust_env=False))
            client.app = application
            return client

        yield start
