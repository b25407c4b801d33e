"""A bucket behind a gateway that answers what S3 does not, breaks downloads, or never answers."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from mm1.errors import DataError, Mm1Error, NetworkError
from mm1.store import s3
from mm1.store.base import BlobRef, digest_of
from mm1.store.s3 import S3Store

CONTENT = bytes(100_000)
REF = BlobRef(sha256=digest_of(CONTENT), num_bytes=len(CONTENT))


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = ""

    def answer(self, status: int, data: bytes, kind: str = "text/html", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        if self.mode != "login page":
            self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.close_connection = True
        if self.mode == "bare 404":
            self.answer(404, b"")
        elif self.mode == "page 429":
            self.answer(429, b"<html>slow down</html>")
        elif self.mode == "cut listing":
            self.answer(200, b"<?xml version='1.0'?><ListBucketResult><Contents><Key>a", "application/xml")
        elif self.mode == "not a listing":
            self.answer(200, b"plain text", "text/plain")
        elif self.mode == "whole body":  # as of a proxy that does not know ranges
            self.answer(200, CONTENT, "application/octet-stream")
        elif self.mode == "cut body":
            self.answer(200, CONTENT[:50_000], "application/octet-stream", len(CONTENT))
        else:
            self.answer(200, b"<html>please log in</html>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_HEAD(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Store]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
        monkeypatch.setattr(s3, "RETRIES", urllib3.Retry(total=1, backoff_factor=0))
        monkeypatch.setattr(s3, "BODY_BACKOFF_S", 0)
        yield S3Store("s3://faults/p", tmp_path / "cache")
        server.shutdown()


@pytest.mark.parametrize(
    ("mode", "call", "kind", "message"),
    [
        ("bare 404", lambda store, path: store.read("a"), DataError, r"s3://faults/p/a does not exist \(404\)"),
        ("bare 404", lambda store, path: store.read_range("a", 0, 9), DataError, "does not exist"),
        ("bare 404", lambda store, path: store.download("a", path), DataError, "does not exist"),
        (
            "whole body",
            lambda store, path: store.read_range("a", 5, 9),
            NetworkError,
            "failed on a: its answer is not S3's .status 200",
        ),
        ("page 429", lambda store, path: store.read("a"), NetworkError, "failed on a: its answer is not S3's .status 429"),
        ("page 429", lambda store, path: store.objects(), NetworkError, "check S3_ENDPOINT and any proxy"),
        ("cut listing", lambda store, path: store.objects(), NetworkError, "not S3's .ParseError"),
        ("cut listing", lambda store, path: list(store.list("a")), NetworkError, "not S3's"),
        ("not a listing", lambda store, path: store.objects(), NetworkError, "not S3's"),
        ("login page", lambda store, path: store.write("a", b"data"), NetworkError, "not S3's .no ETag.; check S3_ENDPOINT"),
        ("login page", lambda store, path: store.read("a"), NetworkError, "not S3's .no ETag"),
        ("login page", lambda store, path: store.read_json("a"), NetworkError, "not S3's .no ETag"),
        ("login page", lambda store, path: store.download("a", path), NetworkError, "not S3's .no ETag"),
        ("login page", lambda store, path: store.local_path(REF), NetworkError, "not S3's .no ETag"),
        ("login page", lambda store, path: store.objects(), NetworkError, "not S3's .ValueError.; check S3_ENDPOINT"),
        ("login page", lambda store, path: list(store.list("a")), NetworkError, "not S3's .ValueError"),
        ("login page", lambda store, path: store.exists("a"), NetworkError, "not S3's .no ETag"),
        ("cut body", lambda store, path: store.read("a"), NetworkError, "unreachable"),
        ("cut body", lambda store, path: store.download("a", path), NetworkError, "unreachable"),
        ("cut body", lambda store, path: store.local_path(REF), NetworkError, "unreachable"),
    ],
)
def test_answers_that_are_not_of_s3(
    store: S3Store, tmp_path: Path, mode: str, call, kind: type[Mm1Error], message: str
) -> None:
    Gateway.mode = mode
    with pytest.raises(kind, match=message) as error:
        call(store, tmp_path / "work" / "a.jsonl")
    assert type(error.value) is kind and "CANARY" not in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_never_answers_is_given_up_within_minutes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    peers.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
        timeouts: list[float] = []
        real = urllib3.Timeout

        def shorter(connect: float, read: float) -> urllib3.Timeout:
            timeouts.append(read)
            return real(connect=connect, read=0.1)

        monkeypatch.setattr(urllib3, "Timeout", shorter)
        monkeypatch.setattr(s3, "RETRIES", s3.RETRIES.new(backoff_factor=0))
        store = S3Store("s3://hangs/p", tmp_path)
        for call in (lambda: store.read("a"), lambda: store.write("a", b"1"), lambda: store.download("a", tmp_path / "a")):
            peers.clear()
            with pytest.raises(NetworkError):
                call()
            assert len(peers) * timeouts[-1] <= 300
        for peer in peers:
            peer.close()


def test_a_store_that_resets_connections_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resets = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            nonlocal resets
            while True:
                try:
                    peer = listener.accept()[0]
                except OSError:
                    return
                peer.recv(1 << 16)
                if resets == 8:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: 2\r\n\r\nhi")
                    continue
                resets += 1
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
        monkeypatch.setattr(s3, "RETRIES", s3.RETRIES.new(backoff_factor=0))
        assert S3Store("s3://resets/p", tmp_path).read("a") == b"hi" and resets == 8
