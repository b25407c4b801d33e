"""Running the application: in the foreground, or on a background thread for the deploy step.

At the first signal to stop, the server drains: running answers go on, new requests get 503. It exits when none is left, or when
the time for draining is over, or at a second signal.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from mm1.errors import ConfigurationError, NetworkError
from mm1.serve.api.service import Service

START_TIMEOUT_S = 30.0
CLOSE_S = 5
"""Time for the last bytes of replies after draining, s."""
LAST_REPLIES_S = 0.1
"""Time for the error replies of answers that did not end in time, s: at a second signal nothing else waits for them."""
BACKLOG = 1024


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
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:  # the last two: a port above 65535, a label above 63 characters
        reason = getattr(error, "strerror", None) or "not an address and a port from 0 to 65535"
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}: choose another --port or --host") from None


def address_of(listener: socket.socket) -> str:
    """Return the address to open in a browser."""
    host, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


class Server(uvicorn.Server):
    """A server that drains before it exits; it logs only warnings.

    Args:
        app: the application of :func:`mm1.serve.app.create_app`.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # its messages have the form of all others
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=CLOSE_S,
                backlog=BACKLOG,
            )
        )
        self._service: Service = app.state.service
        self._deadline: float | None = None

    def drain(self) -> None:
        """Refuse new requests, and exit when the running answers are complete."""
        self._deadline = time.monotonic() + self._service.settings.drain_s
        self._service.answers.is_draining = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGINT or SIGTERM: drain first; at the second one, exit whatever is open."""
        if self._deadline is None:
            self.drain()
        else:
            self._deadline, self.force_exit = time.monotonic(), True

    async def on_tick(self, counter: int) -> bool:
        """Whether to exit; called ten times per second."""
        if self._deadline is not None:
            is_late = time.monotonic() >= self._deadline
            if is_late:
                self._service.answers.fail_all()
                await asyncio.sleep(LAST_REPLIES_S)
            self.should_exit = self.should_exit or is_late or not self._service.answers.num_open
        return await super().on_tick(counter)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Run the application on a background thread and a free local port, and yield its address.

    Raises:
        NetworkError: the server did not start.
    """
    listener = bind("127.0.0.1", 0)
    server = Server(app)
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
