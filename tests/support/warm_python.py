"""Processes that start warm: ``python -m MODULE ...`` without the ten seconds that importing torch and its company takes.

A server (:mod:`tests.support.warm_server`) imports everything once, and forks a child for each start. What a child starts in
turn (a step -> torchrun -> ranks) is forked from it, so parents, sessions, pipes, signals and exit codes are those of ordinary
processes::

    test -> WarmPython.start --socket--> server --fork--> step --fork--> torchrun --fork--> ranks

What a fork cannot show: a module that is imported too late or not at all, a variable that a library reads while it is loaded,
another hash seed. Tests of these start a process as usual.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mm1_components.ranks.torchrun import PROCESS_SETTINGS

ROOT = Path(__file__).parents[2]
SERVER = "from tests.support.warm_server import main; main()"
SETTINGS = PROCESS_SETTINGS | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
"""Environment of the server, as far as libraries read it while they are loaded. CUDA does not survive a fork."""
START_TIMEOUT_S = 240.0


class WarmProcess:
    """A child of the server: what tests need of :class:`subprocess.Popen`."""

    def __init__(self, argv: Sequence[str], connection: socket.socket) -> None:
        self.args = argv
        self.pid: int = json.loads(connection.recv(64))
        self.returncode: int | None = None
        self._connection = connection

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; minus the signal's number when a signal ended it.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                code = self._connection.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            assert code, "the server of warm processes is gone"
            self.returncode = json.loads(code)
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal, if it is still running."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by force."""
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """A connection to the server of a test session; the first one starts it, and it ends with the last one.

    Args:
        folder: of the session, shared by its processes; its path must be short enough for a socket.
    """

    def __init__(self, folder: Path) -> None:
        self._address = str(folder / "warm-python")
        with (folder / "warm-python.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self._session = self._connect()
            except (FileNotFoundError, ConnectionRefusedError):
                self._start_server(folder / "warm-python.log")
                self._session = self._connect()

    def close(self) -> None:
        """Leave the server."""
        self._session.close()

    def start(
        self,
        module: str,
        *arguments: str,
        stdout: int | IO[Any] = 1,
        stderr: int | IO[Any] = 2,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> WarmProcess:
        """Start ``python -m module arguments`` in a session of its own; standard input is empty.

        Args:
            module: its name.
            arguments: the rest of the command line.
            stdout: a file, or its descriptor.
            stderr: a file, or its descriptor.
            env: environment; None = that of this process.
            cwd: working folder.
        """
        argv = [sys.executable, "-m", module, *arguments]
        request = {"argv": argv, "env": dict(os.environ if env is None else env), "cwd": str(cwd)}
        connection = self._connect()
        with Path(os.devnull).open() as stdin:
            streams = [stream if isinstance(stream, int) else stream.fileno() for stream in (stdin, stdout, stderr)]
            socket.send_fds(connection, [json.dumps(request).encode()], streams)
        return WarmProcess(argv, connection)

    def run(self, module: str, *arguments: str, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
        """Start it and wait for its end; output is captured.

        Raises:
            subprocess.TimeoutExpired: it took too long and was killed.
        """
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = self.start(module, *arguments, stdout=stdout, stderr=stderr, **options)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._address)
        return connection

    def _start_server(self, log: Path) -> None:
        ours, theirs = socket.socketpair()
        with log.open("w") as output, ours, theirs:
            subprocess.run(
                [sys.executable, "-c", SERVER, self._address, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                env=os.environ | SETTINGS,
                cwd=ROOT,
                start_new_session=True,
                check=True,
            )
            theirs.close()
            ours.settimeout(START_TIMEOUT_S)
            assert ours.recv(1), f"the server of warm processes did not start:\n{log.read_text()}"
