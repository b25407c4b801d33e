"""The server behind :mod:`tests.support.warm_python`.

It runs no operation of torch itself, so that no thread of a computation is lost in a fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import io
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from mm1 import machine

IMPORTED = (
    *("torch.distributed.run", "deepspeed", "distutils.ccompiler", "pyarrow.dataset", "feast", "dask.dataframe", "duckdb"),
    *("mm1.train.build", "mm1.evals.harness", "mm1.serve.app", "mm1.serve.server", "mm1.serve.contract", "mm1.report.page"),
    *("mm1_components.wrapper.execute", "mm1_workflows.cli.app", "hera.workflows"),
)
MAX_REQUEST_BYTES = 1 << 20


def main() -> None:
    """Import, say that it is done, serve; the arguments are the socket's path and the descriptor to say it to."""
    address, ready = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    Path(address).unlink(missing_ok=True)  # of a server that was killed
    listener.bind(address)
    listener.listen(64)
    subprocess.Popen = _Popen  # type: ignore[misc] # before others import it by name
    machine.affinity = lambda: {0}  # ranks of one thread: for models this small, two would only wait for each other
    for module in IMPORTED:
        importlib.import_module(module)
    with socket.socket(fileno=int(ready)) as told:
        told.send(b"1")
    _serve(listener)


def _serve(listener: socket.socket) -> None:
    """Fork a child for each connection that asks for one, until nobody is connected."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    children: dict[int, tuple[int, socket.socket]] = {}  # descriptor of a child -> its process ID, and who asked for it
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
            elif isinstance(key.fileobj, int):
                selector.unregister(key.fd)
                os.close(key.fd)
                pid, connection = children.pop(key.fd)
                _tell(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            elif (pid := _answer(key.fileobj)) is not None:
                descriptor = os.pidfd_open(pid)
                children[descriptor] = pid, key.fileobj
                selector.register(descriptor, selectors.EVENT_READ)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
        if len(selector.get_map()) == 1:
            return


def _answer(connection: Any) -> int | None:
    """Start what a connection asks for; None when it was closed."""
    message, streams, *_ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 3)
    if not message:
        return None
    request = json.loads(message)
    pid = os.fork()
    if pid == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(request["cwd"])
        os.setsid()
        _become(request["argv"], request["env"])
    for stream in streams:
        os.close(stream)
    _tell(connection, pid)
    return pid


def _tell(connection: socket.socket, number: int) -> None:
    try:
        connection.send(str(number).encode())
    except OSError:
        return  # a test that is over already


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Goes on in the fork where the command is ``python -m``; other commands are executed as always."""

    def __init__(self, args: Any, *positional: Any, **options: Any) -> None:
        if _module_index(args) is None:
            super().__init__(args, *positional, **options)
            return
        assert not positional, "options have names"
        before = options.pop("preexec_fn", None)
        env, kept = dict(options.get("env") or os.environ), options.get("pass_fds", ())

        def instead_of_exec() -> None:
            if before is not None:
                before()
            _become([*args], env, kept)

        super().__init__(args, preexec_fn=instead_of_exec, **options)


def _module_index(args: Any) -> int | None:
    """Where the module's name is in ``python [-u] -m module``; None for other commands."""
    words = [*args] if isinstance(args, list | tuple) else []
    for index, options in ((2, ["-m"]), (3, ["-u", "-m"])):
        if words[:index] == [sys.executable, *options]:
            return index
    return None


# -- in a child ----------------------------------------------------------------------------------------------------------


def _become(argv: list[str], env: Mapping[str, str], kept: Sequence[int] = ()) -> NoReturn:
    """Turn this process, which was just forked, into the one that ``python -m`` would start."""
    gc.freeze()  # what the parent holds is not for this process to close
    gc.enable()  # subprocess disables it around a fork
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    first = 3
    for number in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(first, number)
        first = number + 1
    _reset_signals()
    os.environ.clear()
    os.environ.update(env)
    index = _module_index(argv)
    assert index is not None
    unbuffered = "-u" in argv[:index] or bool(env.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = sys.__stdout__ = _text_stream(1, unbuffered, line_buffering=False, errors="strict")
    sys.stderr = sys.__stderr__ = _text_stream(2, unbuffered, line_buffering=True, errors="backslashreplace")
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)
    sys.orig_argv, sys.argv = argv, argv[index:]
    sys.path[0] = str(Path.cwd())
    _leave(_run(argv[index], env.get("PYTHONPATH", "")))


def _run(module: str, added_path: str) -> int:
    """Run a module as ``__main__``; its exit code."""
    try:
        if added_path:
            sys.path[1:1] = added_path.split(os.pathsep)
            sys.modules.pop("sitecustomize", None)  # that of the server
            if importlib.util.find_spec("sitecustomize"):
                importlib.import_module("sitecustomize")
        _run_as_main(module)
        return 0
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:  # noqa: BLE001 - the interpreter itself is the next one
        traceback.print_exc()
        return 1


def _run_as_main(name: str) -> None:
    """What runpy does, in one frame: torchrun looks at its whole stack often, and those of runpy take long to look at."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None:
        sys.exit(f"{sys.executable}: No module named {name}")
    module = types.ModuleType("__main__")
    module.__file__, module.__spec__, module.__loader__, module.__package__ = spec.origin, spec, spec.loader, spec.parent
    sys.modules["__main__"] = module
    sys.argv[0] = str(spec.origin)
    exec(spec.loader.get_code(spec.name), module.__dict__)


def _leave(code: int) -> NoReturn:
    """End as an interpreter does: threads, what is registered with atexit, streams."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 120
    finally:
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _text_stream(number: int, unbuffered: bool, line_buffering: bool, errors: str) -> IO[str]:
    raw = io.FileIO(number, "w", closefd=False)
    buffered: Any = raw if unbuffered else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, "utf-8", errors, line_buffering=line_buffering, write_through=unbuffered)
