"""The parts that answer requests, shared by all routes: engine, prompts, threads, fetcher, metrics.

Work on the processor that takes long (JSON, base64, headers of images, templates, tokenising) runs in a few threads, next to
the event loop. Images are fetched in threads of their own, so that a slow host delays nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from mm1.data.prepare.locations.fetch import Fetcher, FetchError
from mm1.generation.engine import Engine
from mm1.generation.prompt import Message, Segment
from mm1.serve.api.answers import Answers
from mm1.serve.api.errors import RETRY_AFTER_S, ApiError
from mm1.serve.api.images import RemoteImage, check_image, is_allowed
from mm1.serve.api.metrics import Metrics
from mm1.serve.api.prompts import Prompts
from mm1.serve.config import ServeSettings

ResultT = TypeVar("ResultT")

FETCH_THREADS = 16


class Service:
    """Answers requests with one engine.

    Args:
        engine: generates the answers; the caller closes it.
        settings: limits of requests.
        fetcher: fetches images from allowed hosts; by default from public addresses only.
    """

    def __init__(self, engine: Engine, settings: ServeSettings, fetcher: Fetcher | None = None) -> None:
        self.engine = engine
        self.settings = settings
        self.created = int(time.time())
        self.prompts = Prompts(engine.generator, settings)
        self.metrics = Metrics(engine, settings, lambda: self.answers.is_alive and not self.answers.is_draining)
        self.answers = Answers(engine, self.metrics.count_answers)
        self._threads = ThreadPoolExecutor(settings.prepare_threads, "mm1-prepare")
        self._fetching = ThreadPoolExecutor(FETCH_THREADS, "mm1-fetch")
        self._num_preparing = 0
        self._fetcher = fetcher or Fetcher(
            max_bytes=settings.max_request_bytes,
            timeout_s=settings.image_timeout_s,
            allows=partial(is_allowed, hosts=settings.image_hosts),
        )

    def close(self) -> None:
        """Stop the threads; the engine stays open."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, function: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Run a function in the threads for preparation.

        Raises:
            ApiError: too many requests wait for them.
        """
        limits = self.engine.settings
        if self._num_preparing > limits.max_running + limits.max_waiting:
            raise ApiError("too many requests are waiting: try again", status=429, retry_after_s=RETRY_AFTER_S)
        self._num_preparing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._num_preparing -= 1

    def check_model(self, name: str) -> None:
        """Refuse a request for another model.

        Raises:
            ApiError: the name is not this model's, nor empty.
        """
        if name not in ("", self.settings.model_name):
            message = f"The model {name[:200]!r} does not exist: this server has {self.settings.model_name!r}"
            raise ApiError(message, "model", "model_not_found", status=404)

    async def with_images(self, messages: Sequence[Message]) -> list[Message]:
        """Fetch the remote images of a conversation.

        Raises:
            ApiError: an image was not fetched, or cannot be used.
        """
        remote = [part for message in messages for part in message.content if isinstance(part, RemoteImage)]
        if not remote:
            return list(messages)
        loop = asyncio.get_running_loop()
        urls = list(dict.fromkeys(image.url for image in remote))
        fetched = await asyncio.gather(*(loop.run_in_executor(self._fetching, self._fetch, url) for url in urls))
        images = dict(zip(urls, fetched, strict=True))
        return await self.in_thread(self._insert, messages, images)

    def _fetch(self, url: str) -> bytes | FetchError:
        try:
            image = self._fetcher.get(url)
        except FetchError as error:
            self.metrics.image_fetches.labels("failed").inc()
            return error
        self.metrics.image_fetches.labels("fetched").inc()
        return image

    def _insert(self, messages: Sequence[Message], images: dict[str, bytes | FetchError]) -> list[Message]:
        total = sum(len(data) for data in images.values() if isinstance(data, bytes))
        if total > self.settings.max_request_bytes:
            message = f"the images have {total} bytes, more than {self.settings.max_request_bytes}: send smaller ones"
            raise ApiError(message, "messages", "request_too_large", 413)

        def local(part: Segment) -> Segment:
            if not isinstance(part, RemoteImage):
                return part
            data = images[part.url]
            if isinstance(data, FetchError):
                raise ApiError(f"{part.path}: the image was not fetched ({data.reason})", part.path, "invalid_image_url")
            check_image(data, part.path, self.settings)
            return data

        return [replace(message, content=tuple(map(local, message.content))) for message in messages]
