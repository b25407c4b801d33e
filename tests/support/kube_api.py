"""A small Kubernetes API over HTTP: objects by kind and name, label selectors, logs of pods, faults on demand.

It keeps objects as they are sent; what controllers would do, a test does in its hooks.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from kubernetes import client

Object = dict[str, Any]
NAMESPACE = "team"
HTML = 1
"""A fault: a proxy answers with a page."""
BROKEN = 0
"""A fault: the connection is closed without an answer."""


class KubeApi:
    """The objects of one namespace, and how the server answers."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        """(plural, name) -> object."""
        self.logs: dict[str, list[str]] = {}
        """Pod -> lines with their times."""
        self.missing: set[str] = set()
        """Plurals that the cluster has no kind for."""
        self.faults: list[int] = []
        """What the next requests get instead of an answer: a status, or BROKEN."""
        self.refuse: set[str] = set()
        """Beginnings of requests that are forbidden."""
        self.requests: list[str] = []
        """Method, plural and name of each request."""
        self.on_create: Callable[[Object], None] = lambda _: None
        self.on_request: Callable[[str], None] = lambda _: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def client(self) -> client.ApiClient:
        """A client of this server."""
        settings = client.Configuration(host=self.url)
        settings.retries = False
        return client.ApiClient(settings)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for this server."""
        entry = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": entry}],
                    "clusters": [{"name": "here", "cluster": {"server": self.url}}],
                    "users": [{"name": "me", "user": {}}],
                }
            )
        )
        return path

    def put(self, plural: str, item: Object) -> None:
        """Add or replace an object."""
        self.objects[plural, item["metadata"]["name"]] = item

    def of(self, plural: str) -> list[Object]:
        """The objects of a kind."""
        return [item for (kind, _), item in sorted(self.objects.items()) if kind == plural]

    # -- what the server does ---------------------------------------------------------------------------------

    def answer(self, method: str, plural: str, name: str, query: dict[str, str], body: Object) -> tuple[int, Object]:
        """Status and answer of a request."""
        if plural in self.missing:
            return _refused(404, "the server could not find the requested resource")
        if method == "POST":
            return self._create(plural, body)
        if not name:
            return 200, {"items": [item for item in self.of(plural) if _selected(item, query.get("labelSelector", ""))]}
        if (plural, name) not in self.objects:
            return _refused(404, f'{plural} "{name}" not found')
        item = self.objects[plural, name]
        if method == "PATCH":
            version = item["metadata"].get("resourceVersion")
            if (body.get("metadata") or {}).get("resourceVersion", version) != version:
                return _refused(409, "the object has been modified")
            merge(item, copy.deepcopy(body))
            if version:
                item["metadata"]["resourceVersion"] = str(int(version) + 1)
            if "spec" in body:
                item["metadata"]["generation"] = item["metadata"].get("generation", 1) + 1
        if method == "DELETE":
            if (body.get("preconditions") or {}).get("uid", item["metadata"].get("uid")) != item["metadata"].get("uid"):
                return _refused(409, "the UID in the precondition does not match the UID in record")
            del self.objects[plural, name]
        return 200, item

    def _create(self, plural: str, body: Object) -> tuple[int, Object]:
        name = body["metadata"].setdefault("name", f"{body['metadata'].get('generateName', '')}x7k2p")
        if (plural, name) in self.objects:
            return _refused(409, f'{plural} "{name}" already exists')
        body["metadata"].setdefault("uid", f"uid-of-{name}")
        self.put(plural, body)
        self.on_create(body)
        return 201, body


def merge(item: Object, changes: Object) -> None:
    """Apply a merge patch (RFC 7386) in place."""
    for key, value in changes.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict):
            merge(item.setdefault(key, {}), value)
        else:
            item[key] = value


@contextmanager
def kube_api() -> Iterator[KubeApi]:
    """A server for the time of a test."""
    api = KubeApi()
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: KubeApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet: no waiting for an acknowledgement in between

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        _, _, rest = address.path.partition("/namespaces/")
        namespace, plural, *names = rest.split("/")
        name = names[0] if names else ""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        self.api.requests.append(" ".join(filter(None, (self.command, plural, name, *names[1:]))))
        if self.api.faults:
            fault = self.api.faults.pop(0)
            if fault == HTML:
                self._send(200, "<html>")
                return
            if fault == BROKEN:
                self.close_connection = True
                return
            self._send(*_refused(fault, "told to refuse"))
            return
        assert namespace == NAMESPACE
        self.api.on_request(self.api.requests[-1])
        if any(self.api.requests[-1].startswith(beginning) for beginning in self.api.refuse):
            self._send(*_refused(403, "you may not"))
            return
        if names[1:] == ["log"]:
            self._log(name)
            return
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        self._send(*self.api.answer(self.command, plural, name, query, body))

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _log(self, pod: str) -> None:
        if pod not in self.api.logs:
            self._send(*_refused(404, f'pods "{pod}" not found'))
            return
        text = "".join(f"{line}\n" for line in self.api.logs[pod]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _send(self, status: int, answer: Object | str) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing on standard error."""


def _refused(status: int, message: str) -> tuple[int, Object]:
    return status, {"kind": "Status", "status": "Failure", "message": message, "code": status}


def _selected(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, _, value in (part.partition("=") for part in selector.split(",") if part))
