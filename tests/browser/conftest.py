"""Chromium on the chat page of a real server with a tiny random model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mm1.generation.config import EngineSettings
from mm1.serve.config import ServeSettings
from tests.browser.chat_page import ChatPage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCHEMES = ("light", "dark")
WIDTHS = {1400: 900, 390: 780}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker("browser")
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium on the PATH"))


@pytest.fixture(scope="package")
def browser() -> Iterator:
    """One browser for all tests of this folder; it ends with them, because other tests start event loops in this thread."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=15_000)
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture(scope="session")
def generator():
    from mm1.generation.generator import Generator
    from tests.support.tiny_mm1 import tiny_mm1

    return Generator(*tiny_mm1(context=4096))


@pytest.fixture(scope="session")
def serve(generator) -> Callable:
    """Serves the tiny model with other settings."""
    from mm1.generation.engine import Engine
    from mm1.serve.app import create_app
    from mm1.serve.load import Example
    from mm1.serve.server import running
    from tests.support.tiny_mm1 import picture

    @contextmanager
    def serving(limits: EngineSettings | None = None, api_keys: tuple[str, ...] = (), **settings) -> Iterator[str]:
        examples = [Example("what is this ?", picture(1)), Example("what colour ?", picture(2))]
        engine = Engine(generator, limits)
        try:
            with running(create_app(engine, ServeSettings(**settings), examples, api_keys=api_keys)) as address:
                yield address
        finally:
            engine.close()

    return serving


@pytest.fixture(scope="session")
def address(serve) -> Iterator[str]:
    with serve(max_tokens=24, model_name="tiny") as address:
        yield address


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., ChatPage]]:
    """Opens the chat page at an address; at the end, nothing may have gone wrong in it."""
    pages = []

    def opened(address: str, width: int = 1400, scheme: str = "light", **options) -> ChatPage:
        viewport = {"width": width, "height": WIDTHS[width]}
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"], **options
        )
        pages.append(ChatPage(context, address))
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()
        assert not page.errors, page.errors


@pytest.fixture
def chat(open_page, address) -> ChatPage:
    return open_page(address)
