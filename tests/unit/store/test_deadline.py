"""A store that answers too slowly: silent, headers or bodies byte by byte, or a request body that it does not read."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from mm1.errors import NetworkError
from mm1.store import deadline, s3
from mm1.store.s3 import S3Store

HEAD = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 100000\r\n\r\n'


class Server:
    """Answers each connection with some bytes at once, and the rest one by one."""

    def __init__(self) -> None:
        self.at_once = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.peers: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer: socket.socket) -> None:
        try:
            peer.recv(1 << 16)
            peer.sendall(self.at_once)
            for byte in HEAD[len(self.at_once) :] + b"x" * 100_000:
                time.sleep(0.02)
                peer.sendall(bytes([byte]))
        except OSError:
            return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{server.listener.getsockname()[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
    monkeypatch.setattr(deadline, "CALL_S", 0.3)
    yield server
    server.listener.close()
    for peer in server.peers:
        peer.close()


CALLS: dict[str, Callable[[S3Store, Path], object]] = {
    "read": lambda store, path: store.read("a"),
    "read_range": lambda store, path: store.read_range("a", 0, 9),
    "list": lambda store, path: list(store.list("a")),
    "write": lambda store, path: store.write("a", b"1"),
    "download": lambda store, path: store.download("a", path / "file"),
}


@pytest.mark.parametrize("at_once", [b"", HEAD], ids=["headers", "body"])
@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_arrives_byte_by_byte_is_given_up(server: Server, tmp_path: Path, call: str, at_once: bytes) -> None:
    server.at_once = at_once
    with pytest.raises(NetworkError, match="s3://slow/p is unreachable"):
        CALLS[call](S3Store("s3://slow/p", tmp_path / "cache"), tmp_path)
    assert len(server.peers) == 1, "it is not asked again after its time is over"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_existence_is_not_guessed_from_headers_that_do_not_end(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NetworkError):
        S3Store("s3://slow/p", tmp_path).exists("a")


def test_slow_but_steady_transfers_are_waited_for(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SLOWEST_BYTES_PER_S", 1)
    server.at_once = HEAD.replace(b"100000", b"40    ")
    assert S3Store("s3://slow/p", tmp_path).read("a") == b"x" * 40  # 0.8 s, the limit grows with what arrives


def test_an_upload_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timeouts = []
    real = urllib3.Timeout

    def shorter(connect: float, read: float) -> urllib3.Timeout:
        timeouts.append(connect)
        return real(connect=0.1, read=0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts, nobody reads
        monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY")
        monkeypatch.setattr(urllib3, "Timeout", shorter)
        monkeypatch.setattr(deadline, "CALL_S", 0.2)
        monkeypatch.setattr(deadline, "SLOWEST_BYTES_PER_S", 1e8)
        monkeypatch.setattr(s3, "RETRIES", s3.RETRIES.new(backoff_factor=0))
        file = tmp_path / "file"
        file.write_bytes(b"x" * (4 << 20))  # one part
        with pytest.raises(NetworkError):
            S3Store("s3://slow/p", tmp_path / "cache").write_file("a", file)
    assert max(timeouts) > deadline.CONNECT_S, "the time to send grows with the bytes"


def test_the_pause_that_a_server_asks_for_is_limited() -> None:
    response = urllib3.HTTPResponse(status=503, headers={"Retry-After": "86400"})
    assert s3.RETRIES.started(0).get_retry_after(response) == s3.RETRIES.backoff_max
    retries = s3.RETRIES.started(0)
    retries.until = time.monotonic() - 1
    assert retries.get_retry_after(response) == 0
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        retries.increment("GET", "/a", response=response)


def test_the_limit_is_a_minute_and_grows_with_the_bytes() -> None:
    assert deadline.limit_s(0) == 60
    assert deadline.limit_s(60 << 30) > 3600
    assert s3.RETRIES.read is not None
    assert (1 + int(s3.RETRIES.read)) * deadline.SILENCE_S <= deadline.CALL_S
