"""A small OpenAI-compatible server that fails on command, for tests of clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = tuple[int, dict[str, str], Any]
"""Status, headers and content of an answer."""


class FakeApi:
    """What the server answers, and what it was asked.

    Args:
        lacks: paths that it answers with 404.
        echoes: whether completions with echo have log-probabilities.
    """

    def __init__(self, lacks: tuple[str, ...] = (), echoes: bool = True) -> None:
        self.lacks, self.echoes = lacks, echoes
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.failures: list[Failure] = []
        """The next answers; taken from the front."""
        self.refuse: Callable[[dict[str, Any]], str] = lambda body: ""
        """The reason to refuse a request with 400."""
        self.hold = threading.Event()
        """Answers wait for it."""
        self.hold.set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Failure:
        with self._lock:
            self.requests.append((path, body, headers))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            failure = self.failures.pop(0) if self.failures else None
        try:
            self.hold.wait(10)
            if failure:
                return failure
            if path in self.lacks:
                return 404, {}, {"error": {"message": f"no {path}"}}
            if reason := self.refuse(body):
                return 400, {}, {"error": {"message": reason}}
            return 200, {}, self._content(path, body)
        finally:
            with self._lock:
                self._at_once -= 1

    def _content(self, path: str, body: dict[str, Any]) -> Any:
        if path == "models":
            return {"data": [{"id": "fake"}]}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        if path == "completions":
            choice: dict[str, Any] = {"text": f" {body['prompt'].split()[-1]} again\nmore", "finish_reason": "length"}
            if body.get("echo") and self.echoes:
                choice["logprobs"] = _logprobs(body["prompt"] + " next")
            return {"choices": [choice], "usage": usage}
        content = body["messages"][-1]["content"]
        parts = [content] if isinstance(content, str) else [part.get("text", "IMAGE") for part in content]
        return {"choices": [{"message": {"content": "saw " + " ".join(parts)}, "finish_reason": "stop"}], "usage": usage}


def _logprobs(text: str) -> dict[str, Any]:
    """Words as tokens, each with its space; the log-probability is minus the number of letters."""
    starts = [0, *(index for index, letter in enumerate(text) if letter == " " and index)]
    tokens = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    values = [None, *(-float(len(token)) for token in tokens[1:])]
    tops = [None, *({token: value} for token, value in zip(tokens[1:], values[1:], strict=True))]
    return {"tokens": tokens, "token_logprobs": values, "text_offset": starts, "top_logprobs": tops}


@contextmanager
def serving(api: FakeApi) -> Iterator[str]:
    """Serve it at a free port; yields the address up to ``/v1``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # header and content in one packet: otherwise each answer waits for a delayed acknowledgement

        def _respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, headers, content = api.answer(self.path.removeprefix("/v1/"), body, dict(self.headers.items()))
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _respond  # noqa: N815 - the names of http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        api.hold.set()
        server.shutdown()
        server.server_close()
