"""Running the application: in the foreground, or on a background thread for the deploy step."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from mm1.errors import ConfigurationError, NetworkError

START_TIMEOUT_S = 30.0


def bind(host: str, port: int) -> socket.socket:
    """Create a listening socket.

    Args:
        host: name or address to listen on.
        port: 0 for any free port.

    Raises:
        ConfigurationError: the port is in use or the host is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}: choose another --port or --host") from None


def address_of(listener: socket.socket) -> str:
    """Return the address to open in a browser."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def make_server(app: FastAPI) -> uvicorn.Server:
    """Create a server for a bound socket; it logs only warnings."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10))


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Run the application on a background thread and a free local port, and yield its address.

    Raises:
        NetworkError: the server did not start.
    """
    listener = bind("127.0.0.1", 0)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="mm1-serve", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise NetworkError("the server did not start; see its log")
            time.sleep(0.01)
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=START_TIMEOUT_S)
        listener.close()
