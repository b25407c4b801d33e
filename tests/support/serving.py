"""The server of a model as a process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until
from tests.support.warm_python import WarmProcess, WarmPython

URL = re.compile(r"http://\S+")


@contextmanager
def server(python: WarmPython, log: Path, *options: str) -> Iterator[tuple[str, WarmProcess]]:
    """Start ``python -m mm1.serve`` at a free port; its address and its process, which is killed at the end if it still runs.

    Args:
        python: starts it.
        log: gets its output.
        options: of the command line.
    """
    with log.open("w") as output:
        process = python.start("mm1.serve", *options, "--port", "0", stdout=output, stderr=output)
    try:

        def said() -> re.Match[str] | None:
            assert process.poll() is None, log.read_text()
            return URL.search(log.read_text())

        yield wait_until(said, "the address of the server", 60)[0], process
    finally:
        process.kill()
