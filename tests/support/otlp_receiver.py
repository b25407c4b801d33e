"""A collector of OpenTelemetry: an HTTP server that decodes the spans it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """The server.

    Attributes:
        spans: spans by name, in the order in which they came.
        status: of its answers.
        silent: set: requests are read and never answered.
    """

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}
        self.services: set[str] = set()
        self.status, self.requests = 200, 0
        self.silent, self.released = False, threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        """Decode a request."""
        self.requests += 1
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services.add(values(group.resource)["service.name"])
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.name, []).append(span)


def values(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes}


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.receiver.silent:
            self.receiver.released.wait()
            return
        self.receiver.take(body)
        self.send_response(self.receiver.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *items: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A collector for the time of a test."""
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield made
    finally:
        made.released.set()
        made.server.shutdown()
        made.server.server_close()
