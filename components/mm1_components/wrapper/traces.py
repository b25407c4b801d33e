r"""OpenTelemetry traces: one trace per run, a span for each attempt of a task, and spans within it.

::

    run                      ended by the step report
     \- pretrain             one span per attempt
         \- start-up, writing the checkpoint of step 200, ...

Everything is off unless one of OpenTelemetry's variables for an endpoint is set. The IDs of a trace and of the span of its run
are digests of the store's address and the run's name, so that the pods of a run need not pass them on. A process collects its
spans and sends them once, before it exits; until then, nothing of OpenTelemetry is imported. A collector that is down or slow
costs :data:`LIMIT_S` at most, and never changes an outcome.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mm1.errors import SAVED, Outcome, Preempted
from mm1.manifests import MANIFEST_NAME

log = logging.getLogger("mm1")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's variables, one of which is set if there is a collector."""
LIMIT_S = 10.0
"""Longest time for sending the spans of a process."""
MAX_SPANS = 1000
"""Spans of a process; further ones are left out. A training of weeks writes thousands of checkpoints."""
FACTS = {"tokens": "mm1.tokens", "tokens_per_s": "mm1.tokens_per_second"}
"""Facts of a training's record that are attributes of its span."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span that has ended; times are nanoseconds since 1970."""

    trace: int
    id: int
    parent: int | None
    name: str
    started: int
    ended: int
    attributes: Mapping[str, str | bool | int | float]
    error: str | None = None
    """Why the work failed; None if it did not."""


_spans: list[Span] = []
_current: ContextVar[tuple[int, int] | None] = ContextVar("span", default=None)
"""Trace and ID of the span around the running code."""


def is_on() -> bool:
    """Whether there is a collector."""
    return any(os.environ.get(name) for name in ENDPOINTS)


def trace_of(store: str, run: str) -> int:
    """Return the ID of a run's trace, 128 bits.

    Args:
        store: address of its store.
        run: its name.
    """
    return int.from_bytes(_digest(store, run)[:16], "big")


def root_of(store: str, run: str) -> int:
    """Return the ID of the span of the run itself, 64 bits; arguments are those of :func:`trace_of`."""
    return int.from_bytes(_digest(store, run)[16:24], "big")


def _digest(store: str, run: str) -> bytes:
    return hashlib.sha256(f"{store}\0{run}".encode()).digest()


@contextmanager
def traced(store: str, record: Mapping[str, Any]) -> Iterator[None]:
    """Make a span of an attempt, whose record is complete at the end of the block.

    Args:
        store: address of the store.
        record: run record of the task.
    """
    if not is_on():
        yield
        return
    run = str(record["run"])
    outer = _current.get() or (trace_of(store, run), root_of(store, run))
    own = (outer[0], secrets.randbits(64) or 1)
    token = _current.set(own)
    try:
        yield
    finally:
        _current.reset(token)
        started, ended = (nanoseconds(record.get(name)) for name in ("started", "ended"))
        _add(
            Span(
                trace=own[0],
                id=own[1],
                parent=outer[1],
                name=str(record["task"]),
                started=started,
                ended=max(started, ended),
                attributes=_attributes(record),
                error=_error(record),
            )
        )


def add_part(name: str, started: int) -> None:
    """Add a span within the current one that ends now.

    Args:
        name: of the part.
        started: nanoseconds since 1970.
    """
    if outer := _current.get():
        span = Span(
            trace=outer[0],
            id=secrets.randbits(64) or 1,
            parent=outer[1],
            name=name,
            started=started,
            ended=time.time_ns(),
            attributes={},
        )
        _add(span)


def add_run(store: str, run: str, started: datetime, status: str) -> None:
    """Add the span of a run that ends now, above those of its tasks.

    Args:
        store: address of the store.
        run: name of the run.
        started: start time of its first task.
        status: ``Succeeded`` or another state of the engine.
    """
    if is_on():
        span = Span(
            trace=trace_of(store, run),
            id=root_of(store, run),
            parent=None,
            name=run,
            started=nanoseconds(started.isoformat()),
            ended=time.time_ns(),
            attributes={"mm1.run": run, "mm1.status": status},
            error=status if status in ("Failed", "Error") else None,
        )
        _add(span)


def _add(span: Span) -> None:
    if len(_spans) < MAX_SPANS or span.parent is None or "mm1.task" in span.attributes:
        _spans.append(span)


def nanoseconds(text: str | None) -> int:
    """Return a time of a record in nanoseconds since 1970; without a text, the current time."""
    return int(datetime.fromisoformat(text).timestamp() * 1e3) * 1_000_000 if text else time.time_ns()


def _attributes(record: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    outcome = Outcome.from_exit_code(int(record.get("outcome", Outcome.UNHANDLED)))
    manifest = MANIFEST_NAME.match(str((record.get("outputs") or {}).get("manifest", "")))
    facts = record.get("facts") or {}
    device = facts.get("gpu") or facts.get("processor") or (record.get("host") or {}).get("processor")
    return {
        "mm1.run": record["run"],
        "mm1.task": record["task"],
        "mm1.step": record["step"],
        "mm1.attempt": record.get("attempts", 1),
        "mm1.cache_hit": record.get("cache_hit", False),
        "mm1.outcome": outcome.label,
        **({"mm1.manifest": manifest["digest"]} if manifest else {}),
        **({"mm1.device": str(device)} if device else {}),
        **{key: facts[name] for name, key in FACTS.items() if name in facts},
    }


def _error(record: Mapping[str, Any]) -> str | None:
    is_failure = record.get("outcome", Outcome.UNHANDLED) not in (Outcome.DONE, *SAVED)
    return str(record.get("message", "")) if is_failure else None


# -- sending ----------------------------------------------------------------------------------------------------------


def send(limit_s: float = LIMIT_S) -> None:
    """Send the spans of this process; an error is logged only.

    Args:
        limit_s: longest time for it, in seconds.
    """
    if not _spans:
        return
    spans, _spans[:] = list(_spans), []
    sender = threading.Thread(target=_send, args=(spans, limit_s), name="mm1-traces", daemon=True)
    sender.start()
    try:
        sender.join(limit_s)
    except Preempted:  # raised by a signal handler; the work is done and recorded
        log.info("stopped while sending the trace")
    else:
        if sender.is_alive():
            log.warning("the trace is lost: the collector has not answered within %g s; check %s", limit_s, ENDPOINTS[0])


def _send(spans: list[Span], limit_s: float) -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs tracebacks; one line is enough
        result = OTLPSpanExporter(timeout=limit_s).export(_converted(spans))
        if result is not SpanExportResult.SUCCESS:
            log.warning("the trace is lost: the collector is unreachable or refuses it; check %s", ENDPOINTS[0])
    except Exception as error:  # noqa: BLE001 - nothing about this may change the outcome of a step
        log.warning("the trace is lost: %s: %s", type(error).__name__, error)


def _converted(spans: list[Span]) -> list[Any]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(trace: int, number: int) -> SpanContext:
        return SpanContext(trace, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    # SERVICE_NAME of the environment goes before ours
    resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "mm1"})
    return [
        ReadableSpan(
            name=span.name,
            context=context(span.trace, span.id),
            parent=context(span.trace, span.parent) if span.parent else None,
            resource=resource,
            attributes=dict(span.attributes),
            status=Status(StatusCode.OK) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.started,
            end_time=span.ended,
            instrumentation_scope=InstrumentationScope("mm1"),
        )
        for span in spans
    ]
