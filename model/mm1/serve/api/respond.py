"""From a prepared request to its response: queued, answered, and sent whole or as a stream.

A client that leaves, whole or streamed, waiting or answered, cancels its asks before their next token.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mm1.generation.engine import Ask, Step
from mm1.serve.api.answers import Pending
from mm1.serve.api.body import parse_object
from mm1.serve.api.errors import ApiError
from mm1.serve.api.replies import DONE, Reply, event, usage_of
from mm1.serve.api.service import Service


@dataclass(frozen=True)
class Job:
    """A request that is ready for the engine."""

    asks: list[Ask]
    num_prompt_tokens: int
    reply: Reply
    streams: bool
    include_usage: bool
    """Whether a stream ends with the usage."""


SMALL_BYTES = 4096
"""Bodies below this are parsed on the event loop: passing them to a thread takes longer."""
Prepare = Callable[[dict[str, Any]], Awaitable[Job]]
"""JSON of a request -> the job."""


async def read_object(service: Service, request: Request) -> dict[str, Any]:
    """Read and parse the body of a request.

    Raises:
        ApiError: it is not a JSON object.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise ApiError(f"content-encoding: expected identity, got {encoding[:40]!r}: send the body uncompressed", status=415)
    body = await request.body()
    if len(body) < SMALL_BYTES:
        return parse_object(body)
    return await service.in_thread(parse_object, body)


async def respond(service: Service, request: Request, prepare: Prepare) -> Response:
    """Answer a request.

    Raises:
        ApiError: the request is refused, or its answer failed.
    """
    service.answers.check_open()
    await request.body()
    return await while_connected(request, _respond(service, request, prepare))


async def while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Wait for a response, and cancel the work when the client leaves. The body must have been read.

    Raises:
        ClientDisconnect: the client has left.
    """
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _respond(service: Service, request: Request, prepare: Prepare) -> Response:
    job = await prepare(await read_object(service, request))
    pending = service.answers.submit(job.asks, job.streams)
    try:
        if not job.streams:
            steps = await pending.last_steps()
            body = await service.in_thread(_whole, job, steps)
            pending.close()
            return Response(body, media_type="application/json")
        # The first token comes before anything is sent, so that a damaged image still gets an error reply.
        steps_of_answers = pending.steps()
        first = await anext(steps_of_answers)
        return EventStream(_events(job, first, steps_of_answers, service.metrics.count_error), pending)
    except BaseException:
        pending.close()
        raise


def _whole(job: Job, steps: list[Step]) -> bytes:
    body = job.reply.whole(steps, usage_of(job.num_prompt_tokens, steps))
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No cache, and no buffer of a proxy."""


class EventStream(StreamingResponse):
    """Server-sent events of answers, which are given up when the client leaves.

    Args:
        events: text of the events.
        pending: the answers.
    """

    def __init__(self, events: AsyncIterator[str], pending: Pending) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pending.close()


async def _events(
    job: Job, first: tuple[int, Step], others: AsyncIterator[tuple[int, Step]], on_error: Callable[[ApiError], None]
) -> AsyncIterator[str]:
    previous: list[Step | None] = [None] * len(job.asks)
    for chunk in job.reply.first_chunks(len(job.asks)):
        yield event(chunk)
    try:
        async for number, step in _chain(first, others):
            body = job.reply.chunk(number, step, previous[number])
            previous[number] = step
            if body is not None:
                yield event(body)
    except ApiError as error:  # the status was sent
        on_error(error)
        yield event(error.body)
    else:
        if job.include_usage:
            yield event(job.reply.usage_chunk(usage_of(job.num_prompt_tokens, previous)))
    yield DONE


async def _chain(first: tuple[int, Step], others: AsyncIterator[tuple[int, Step]]) -> AsyncIterator[tuple[int, Step]]:
    yield first
    async for item in others:
        yield item
