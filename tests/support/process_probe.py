"""What a program sees of its own process: ``python -m tests.support.process_probe HOW [ARGUMENT...]``.

``HOW`` says how it goes on after it has printed that: ``return``, ``exit``, ``complain``, ``raise``, ``wait`` for a signal, or
``start`` another one.
"""

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from mm1 import machine


def facts() -> dict[str, object]:
    """Argument, folder, environment, streams, signals, modules."""
    return {
        "name": (__name__, __package__, __spec__.name, sys.modules["__main__"].__dict__ is globals()),
        "argv": (sys.argv, sys.orig_argv),
        "folder": (os.getcwd(), sys.path[0]),  # noqa: PTH109
        "environment": dict(os.environ),
        "files": sorted(os.readlink(f"/proc/self/fd/{number}") for number in (0, 2)),  # noqa: PTH115
        "others": [number for number in range(3, 64) if Path(f"/proc/self/fd/{number}").exists()],
        "streams": [(stream.encoding, stream.errors, stream.line_buffering) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "input": sys.stdin.read(),
        "signals": {number.name: str(signal.getsignal(number)) for number in signal.Signals},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": len(threading.enumerate()),
        "main": threading.current_thread() is threading.main_thread(),
        "logging": (len(logging.root.handlers), logging.root.level),
        "leads": os.getsid(0) == os.getpid(),
    }


def main() -> None:
    """Print, and go on as told."""
    how, *rest = sys.argv[1:]
    print(json.dumps(facts()))
    atexit.register(print, "at exit")
    match how:
        case "exit":
            sys.exit(7)
        case "complain":
            sys.exit("that is all")
        case "raise":
            raise KeyError("something")
        case "wait":
            sys.stdout.flush()
            while True:  # not signal.pause(), which misses a signal that arrives just before it
                time.sleep(0.05)
        case "start":
            signal.signal(signal.SIGTERM, lambda *_: None)
            logging.basicConfig(level=logging.INFO)
            sys.stdout.flush()
            inner = subprocess.Popen(
                [sys.executable, "-u", "-m", __spec__.name, *rest],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | {"PROBE": "inner"},
                start_new_session=True,
                preexec_fn=machine.die_with_parent,
                text=True,
            )
            print(inner.communicate()[1], inner.returncode)


if __name__ == "__main__":
    main()
