"""The server behind :mod:`tests.support.warm_python`.

It runs no operation of torch itself, so that no thread of a computation is lost in a fork.
"""

from __future__ import annotations

import atexit
import contextlib
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
    "prometheus_client",  # before feast, which makes it write to files that a fork does not have
    *("torch.distributed.run", "deepspeed", "distutils.ccompiler", "pyarrow.dataset", "feast", "dask.dataframe", "duckdb"),
    *("mm1.train.build", "mm1.evals.harness", "mm1.serve.app", "mm1.serve.server", "mm1.serve.contract", "mm1.report.page"),
    *("mm1_components.wrapper.execute", "mm1_workflows.cli.app", "hera.workflows"),
)
MAX_REQUEST_BYTES = 1 << 20
IDLE_S = 60.0
AT_EXIT: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [(logging.shutdown, (), {})]
"""What the imported modules want to be done at the end of a process."""


def main() -> None:
    """Import, say that it is done, serve; the arguments are the socket's path and the descriptor to say it to."""
    if os.fork():
        os._exit(0)  # so that it is nobody's child: some tests count theirs
    address, ready = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    Path(address).unlink(missing_ok=True)  # of a server that was killed
    listener.bind(address)
    listener.listen(64)
    subprocess.Popen = _Popen  # before others import it by name
    machine.affinity = lambda: {0}  # ranks of one thread: for models this small, two would only wait for each other
    register, atexit.register = atexit.register, _note_at_exit
    for module in IMPORTED:
        importlib.import_module(module)
    atexit.register = register
    with socket.socket(fileno=int(ready)) as told:
        told.send(b"1")
    _serve(listener)


def _note_at_exit(function: Any, *arguments: Any, **options: Any) -> Any:
    """In the place of atexit.register while the server imports: it is for the children to do."""
    AT_EXIT.append((function, arguments, options))
    return function


def _serve(listener: socket.socket) -> None:
    """Fork a child for each connection that asks for one, until nobody is connected."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    children: dict[Any, int] = {}  # connection -> process ID of the child that it has asked for and that is running
    while True:
        for key, _ in selector.select(IDLE_S):
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
            elif key.data is not None:  # a child has ended; its descriptor says for whom it ran
                selector.unregister(key.fileobj)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(children.pop(key.data), 0)[1])
                _tell(key.data, code)
            elif request := _receive(key.fileobj):
                children[key.fileobj] = pid = _fork(*request)
                _tell(key.fileobj, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, data=key.fileobj)
            else:
                selector.unregister(key.fileobj)
                if pid := children.get(key.fileobj, 0):  # whoever has asked for it is gone
                    os.kill(pid, signal.SIGKILL)
        if len(selector.get_map()) == 1:
            return


def _receive(connection: Any) -> tuple[dict[str, Any], list[int]] | None:
    """What a connection asks for, and the standard streams that come with it; None when it was closed."""
    message, streams, *_ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 3)
    return (json.loads(message), streams) if message else None


def _fork(request: dict[str, Any], streams: list[int]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.chdir(request["cwd"])
            os.setsid()
            machine.die_with_parent()
            _become(request["argv"], request["env"])
        finally:  # a second server must not come of it
            os._exit(1)
    for stream in streams:
        os.close(stream)
    return pid


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it may be gone
        connection.send(str(number).encode())


class _Popen(subprocess.Popen):
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
    atexit._clear()
    for function, arguments, options in AT_EXIT:
        atexit.register(function, *arguments, **options)
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
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
    stdin = io.BufferedReader(io.FileIO(0, closefd=False))
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(stdin, "utf-8", sys.__stdin__.errors)
    sys.stdout = sys.__stdout__ = _text_stream(1, unbuffered, line_buffering=False, errors=sys.__stdout__.errors)
    sys.stderr = sys.__stderr__ = _text_stream(2, unbuffered, line_buffering=not unbuffered, errors="backslashreplace")
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
        sys.excepthook(*sys.exc_info())
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
        threading._shutdown()
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
