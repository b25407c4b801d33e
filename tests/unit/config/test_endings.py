"""One mapping from exceptions to outcome classes, one order of causes, one shape of how something ended."""

from __future__ import annotations

import errno
import io
import os
import shutil
import socket
import ssl
from datetime import timedelta
from urllib.error import URLError

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import UnidentifiedImageError
from pydantic import BaseModel, ValidationError
from torch.distributed import DistBackendError, DistNetworkError, DistStoreError, TCPStore

from mm1.errors import BY_OUTCOME, EXPLAINS, ConfigurationError, DataError, Ending, Mm1Error, Outcome, cause, typed

OUT_OF_MEMORY = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f8")),
    pa.lib.ArrowMemoryError("malloc of size 1 failed"),
    duckdb.OutOfMemoryException("could not allocate block"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.cuda.OutOfMemoryError("HIP out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__}: {str(error)[:30]}")
def test_every_way_memory_runs_out_is_83(error: Exception) -> None:
    assert Ending.of(error).outcome is Outcome.OUT_OF_MEMORY


def test_a_real_allocation_that_fails_is_83() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert Ending.of(caught.value).outcome is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ENOSPC, Outcome.NETWORK),
        (errno.EDQUOT, Outcome.NETWORK),
        (errno.EIO, Outcome.NETWORK),
        (errno.ECONNRESET, Outcome.NETWORK),
        (errno.ETIMEDOUT, Outcome.NETWORK),
        (errno.EISDIR, Outcome.CONFIGURATION),
        (errno.ENOTDIR, Outcome.CONFIGURATION),
        (errno.ENAMETOOLONG, Outcome.CONFIGURATION),
        (errno.E2BIG, Outcome.CONFIGURATION),
        (errno.ELOOP, Outcome.CONFIGURATION),
        (errno.EEXIST, Outcome.CONFIGURATION),
        (errno.EROFS, Outcome.CONFIGURATION),
        (errno.ENOEXEC, Outcome.CONFIGURATION),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if type(value) is int else value.name,
)
def test_errors_of_the_system_are_retried_only_if_they_may_pass(number: int, outcome: Outcome) -> None:
    ending = Ending.of(OSError(number, os.strerror(number), "/some/file"))
    assert ending.outcome is outcome and "/some/file" in ending.message


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RuntimeError("Connection closed by peer [127.0.0.1]:29500"), Outcome.NETWORK),
        (RuntimeError("NCCL error: unhandled system error"), Outcome.NETWORK),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Outcome.HARDWARE),
        (RuntimeError("can't start new thread"), Outcome.NETWORK),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), Outcome.UNHANDLED),
        (RuntimeError("CUDA error: device-side assert triggered"), Outcome.UNHANDLED),
        (Exception("I/O error: No space left on device (os error 28)"), Outcome.NETWORK),
        (ConnectionResetError("by peer"), Outcome.NETWORK),
        (TimeoutError("timed out"), Outcome.NETWORK),
        (DataError("shard.tar"), Outcome.DATA),
        (KeyError("summary.md"), Outcome.UNHANDLED),
        (SystemExit(3), Outcome.UNHANDLED),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else str(value)[:40],
)
def test_other_exceptions(error: BaseException, outcome: Outcome) -> None:
    assert Ending.of(error).outcome is outcome


def test_a_model_that_does_not_validate_is_80() -> None:
    class Model(BaseModel):
        steps: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"steps": "many"})
    assert Ending.of(caught.value).outcome is Outcome.CONFIGURATION
    assert typed(ValueError("a plain one")) is None


def _raised_from(cause: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class _Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DUPLICATE_GPU = "NCCL error in: ProcessGroupNCCL.cpp:94, invalid usage. Last error: Duplicate GPU detected: rank 1 and rank 0"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DistNetworkError("The client socket has timed out after 500ms while trying to connect"), Outcome.NETWORK),
        (DistNetworkError("The server socket has failed to listen: EADDRINUSE"), Outcome.NETWORK),
        (DistStoreError("wait timeout after 50ms, keys: /x"), Outcome.NETWORK),
        (DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error"), Outcome.NETWORK),
        (DistBackendError(DUPLICATE_GPU), Outcome.CONFIGURATION),
        (DistBackendError("NCCL error: Cuda failure 'out of memory'"), Outcome.OUT_OF_MEMORY),
        (RuntimeError("expected a name, got 'igloo'"), Outcome.UNHANDLED),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:992)"), Outcome.NETWORK),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"), Outcome.NETWORK),
        (ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"), Outcome.CONFIGURATION),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"), Outcome.CONFIGURATION),
        (URLError(ssl.SSLCertVerificationError(1, "certificate verify failed")), Outcome.CONFIGURATION),
        (URLError(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), Outcome.NETWORK),
        (socket.herror(1, "Unknown host"), Outcome.NETWORK),
        (socket.gaierror(-3, "Temporary failure in name resolution"), Outcome.NETWORK),
        (UnidentifiedImageError("cannot identify image file 'a.jpg'"), Outcome.DATA),
        (shutil.SameFileError("'a' and 'a' are the same file"), Outcome.CONFIGURATION),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), Outcome.NETWORK),
        (shutil.Error([("a", "b", "[Errno 13] Permission denied: 'b'")]), Outcome.CONFIGURATION),
        (io.UnsupportedOperation("not writable"), Outcome.UNHANDLED),
        (OSError("Can't load tokenizer for '/a'."), Outcome.UNHANDLED),
        (OSError(), Outcome.UNHANDLED),
        (_Speechless(), Outcome.UNHANDLED),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else type(value).__name__,
)
def test_exceptions_of_libraries_whose_numbers_and_classes_say_something_else(error: Exception, outcome: Outcome) -> None:
    ending = Ending.of(error)
    assert ending.outcome is outcome and ending.message.strip(": ")
    assert "owner and mode" not in ending.message or isinstance(error, shutil.Error)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), ConnectionError()])
def test_a_connection_that_says_nothing_is_named_by_its_class(error: OSError) -> None:
    assert Ending.of(error) == Ending(outcome=Outcome.NETWORK, message=type(error).__name__)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (_raised_from(NO_SPACE, RuntimeError("a worker failed")), Outcome.NETWORK),
        (_raised_from(_raised_from(DataError("shard"), KeyError("x")), ValueError("y")), Outcome.DATA),
        (_raised_from(KeyError("x"), DataError("shard")), Outcome.DATA),
        (_raised_from(NO_SPACE, SystemExit(3)), Outcome.UNHANDLED),
        (ExceptionGroup("", [ConfigurationError("bad")]), Outcome.CONFIGURATION),
        (ExceptionGroup("", [NO_SPACE, ExceptionGroup("", [NO_SPACE])]), Outcome.NETWORK),
        (ExceptionGroup("", [ConnectionResetError(), DataError("shard")]), Outcome.DATA),
        (ExceptionGroup("", [ConnectionResetError(), KeyError("a bug")]), Outcome.UNHANDLED),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), Outcome.UNHANDLED),
        (_raised_from(ExceptionGroup("", [MemoryError()]), RuntimeError("workers failed")), Outcome.OUT_OF_MEMORY),
    ],
)
def test_causes_and_groups_are_looked_into(error: BaseException, outcome: Outcome) -> None:
    assert Ending.of(error).outcome is outcome


def test_what_an_exception_was_raised_while_handling_is_not_its_cause() -> None:
    error = KeyError("a bug in the handler")
    error.__context__ = NO_SPACE
    assert typed(error) is None


def test_a_circle_of_causes_has_an_end() -> None:
    first, second = KeyError("a"), KeyError("b")
    first.__cause__, second.__cause__ = ExceptionGroup("", [second]), first
    assert typed(first) is None


def test_real_errors_of_the_rendezvous_are_retried() -> None:
    store = TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
    for meet in (
        lambda: store.wait(["nobody"], timedelta(milliseconds=20)),
        lambda: TCPStore("127.0.0.1", store.port, 2, True, wait_for_workers=False),
    ):
        with pytest.raises(RuntimeError) as caught:
            meet()
        ending = Ending.of(caught.value)
        assert ending.outcome is Outcome.NETWORK and "\n" not in ending.message


@given(st.sampled_from(list(Outcome)), st.text(), st.text(max_size=20))
def test_an_ending_survives_its_json(outcome: Outcome, message: str, where: str) -> None:
    ending = Ending(outcome=outcome, message=message, where=where)
    assert Ending.from_json(ending.to_json()) == ending
    text = ending.to_json(max_bytes=200)
    short = Ending.from_json(text)
    assert len(text.encode()) <= 200 or not (short and short.message)
    assert short is not None and message.startswith(short.message)


@pytest.mark.parametrize("letter", ["a", "\n", "ü", "→", "😀"])
def test_a_long_message_is_cut_to_whole_json(letter: str) -> None:
    text = Ending(outcome=Outcome.DATA, message=letter * 50_000).to_json(max_bytes=4096)
    short = Ending.from_json(text)
    assert short is not None and 4000 < len(text.encode()) <= 4096 and set(short.message) == {letter}


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"outcome": "x", "message": ""}', "exit 1", b"\xff"])
def test_anything_else_is_no_ending(text: str | bytes) -> None:
    assert Ending.from_json(text) is None


def test_an_ending_raises_the_error_of_its_class_with_its_place() -> None:
    for outcome, error in BY_OUTCOME.items():
        raised = Ending(outcome=outcome, message="why", where="node 3").error
        assert type(raised) is error and str(raised) == "node 3: why"
    assert type(Ending(outcome=Outcome.UNHANDLED, message="why").error) is Mm1Error


def test_the_cause_is_named_and_not_its_consequences() -> None:
    lost, drained = Ending(outcome=Outcome.NETWORK, where="node 0"), Ending(outcome=Outcome.PREEMPTED, where="node 1")
    diverged = Ending(outcome=Outcome.DIVERGED, where="node 2")
    assert cause([lost, drained, diverged]) is diverged
    bug = Ending.of(KeyError("only this rank came here"))
    assert cause([lost, bug]) is bug, "its peers lose it"
    assert cause([lost, drained]) is drained, "who lost a drained node is a consequence"
    used_up = Ending(outcome=Outcome.BUDGET, where="node 3")
    assert cause([lost, drained, used_up]) is used_up, "the ranks decide together, then their connections close"
    assert cause([lost, drained], stops_others=True) is lost, "torchrun stops the ranks that are left"
    assert cause([lost, Ending(outcome=Outcome.NETWORK, where="node 5")]) is lost
    assert cause([]) is None
    assert set(EXPLAINS) == set(Outcome) - {Outcome.DONE}
