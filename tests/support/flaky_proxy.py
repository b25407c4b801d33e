"""A TCP proxy before a real server, so that a test can slow the server down or take it away without touching it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType


class FlakyProxy:
    """Forwards to an address; can drop what is open, and refuse what comes.

    Args:
        host: of the server.
        port: of the server.
        bytes_per_s: rate of each connection in each direction; 0 = no limit.
    """

    def __init__(self, host: str, port: int, bytes_per_s: int = 0) -> None:
        self.target = (host, port)
        self.bytes_per_s = bytes_per_s
        self.away = threading.Event()
        self.open: set[socket.socket] = set()
        self.dropped = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def __enter__(self) -> FlakyProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.listener.close()
        self.drop()

    def drop(self) -> None:
        """End every connection at once, wherever it is."""
        for one in list(self.open):
            self.dropped += 1
            _end(one)
        self.open.clear()

    def go_away(self, seconds: float) -> None:
        """Drop everything and refuse for so many seconds, as a server that restarts does."""
        self.away.set()
        self.drop()
        time.sleep(seconds)
        self.away.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.away.is_set():
                _end(client)
                continue
            try:
                server = socket.create_connection(self.target, timeout=10)
            except OSError:
                _end(client)
                continue
            server.settimeout(None)
            self.open |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                target.sendall(data)
                if self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
        _end(source)
        _end(target)
        self.open -= {source, target}


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
