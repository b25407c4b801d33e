"""A process that starts warm sees and says what one that starts cold does, and ends alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_for_end, wait_until
from tests.support.warm_python import ROOT, WarmPython

pytestmark = pytest.mark.integration
PROBE = "tests.support.process_probe"
LOCALE = {name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_"))}
ENVIRONMENT = {"PATH": os.environ["PATH"], "PROBE": "outer", **LOCALE}


def cold(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", PROBE, *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env=ENVIRONMENT, cwd=ROOT, start_new_session=True, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def warm(python: WarmPython, *arguments: str) -> tuple[int, str, str]:
    done = python.run(PROBE, *arguments, env=ENVIRONMENT, timeout=60)
    return done.returncode, done.stdout, done.stderr


def comparable(text: str) -> list[object]:
    """Lines of output: facts without the names of pipes and files that the output goes to."""
    lines = [json.loads(line) if line.startswith("{") else line for line in text.splitlines()]
    return [{**line, "files": line["files"][0]} if isinstance(line, dict) else line for line in lines]


@pytest.mark.parametrize("arguments", [["return", "a", ""], ["exit"], ["complain"], ["start", "return"], ["start", "exit"]])
def test_a_process_is_as_one_that_starts_cold(warm_python, arguments):
    code, output, errors = warm(warm_python, *arguments)
    cold_code, cold_output, cold_errors = cold(*arguments)
    assert comparable(output) == comparable(cold_output)
    assert (code, errors) == (cold_code, cold_errors)


def test_an_error_has_its_trace_and_exit_code(warm_python):
    code, output, errors = warm(warm_python, "raise")
    assert (code, output.splitlines()[-1]) == (1, "at exit")
    assert errors.startswith("Traceback") and errors.endswith("KeyError: 'something'\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it(warm_python, tmp_path, number):
    with (tmp_path / "output").open("w") as output:
        process = warm_python.start(PROBE, "wait", stdout=output, stderr=output)
    wait_until(lambda: (tmp_path / "output").read_text(), "its output")
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(20) == process.poll() == -number
    assert ("KeyboardInterrupt" in (tmp_path / "output").read_text()) == (number == signal.SIGINT)


def test_what_is_missing_is_named(warm_python):
    done = warm_python.run("tests.support.nothing", timeout=60)
    assert done.returncode == 1 and "No module named tests.support.nothing" in done.stderr


def test_a_process_that_nobody_waits_for_any_more_is_ended(warm_python, tmp_path):
    with Path(os.devnull).open("w") as output:
        pid = warm_python.start(PROBE, "wait", stdout=output, stderr=output).pid
    wait_for_end([pid], "the process")
