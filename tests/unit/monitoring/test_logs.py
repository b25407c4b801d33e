"""Logs as JSON lines: of a step, of a node with its ranks, and of the lines that the supervisor forwards."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pytest

from mm1.monitoring.logs import JsonFormatter, LogSettings, add_fields, configure
from mm1_components.ranks.train import OutputLines
from tests.support.training_output import context_in

SETTINGS = LogSettings(format="json", run="run-1", task="pretrain", attempt=2, launch=0)
OWN = {"run": "run-1", "task": "pretrain", "attempt": 2, "launch": 0}


@contextmanager
def process(stream: TextIO, settings: LogSettings, **options: Any) -> Iterator[None]:
    """The log as in a process of its own, without pytest's handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        configure(stream, settings, **options)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_an_object_with_the_fields_of_its_process() -> None:
    with process(stream := io.StringIO(), SETTINGS, rank=3):
        logging.getLogger("mm1").info("step %d:\n\u2028 Gr\u00fc\u00dfe \ud800", 7)
        add_fields(attempt=3)
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("mm1").exception("failed")
    first, second = lines(stream.getvalue())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {"level": "info", **OWN, "rank": 3, "message": "step 7:\n\u2028 Gr\u00fc\u00dfe \ud800"}
    assert second["attempt"] == 3 and second["level"] == "error"
    assert second["message"].startswith("failed\nTraceback") and second["message"].endswith("ValueError: odd")


def test_text_stays_as_it_is() -> None:
    with process(stream := io.StringIO(), LogSettings(), text_format="%(levelname)s %(message)s"):
        add_fields(attempt=3)
        logging.getLogger("mm1").warning("plain")
    assert stream.getvalue() == "WARNING plain\n"
    assert LogSettings().of_attempt(2) == LogSettings().of_launch(2) == LogSettings()


@pytest.mark.parametrize("line", ['{"mm1": "progress", "step": 1}\n', '{"time": "2026", "message": "x"}\n'])
def test_a_line_that_is_an_object_is_forwarded_unchanged(line: str) -> None:
    assert SETTINGS.whole_line(line) == line


def test_text_of_a_library_becomes_a_message() -> None:
    line = SETTINGS.whole_line("loading shards: 100%\r\n")
    assert line.endswith("\n")
    [item] = lines(line)
    assert {name: item[name] for name in OWN} == OWN and (item["level"], item["message"]) == ("info", "loading shards: 100%")
    assert LogSettings().whole_line("loading\n") == "loading\n"


def test_the_forwarded_log_has_one_object_per_line_and_progress_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = OutputLines(context_in(tmp_path, run="run-1", artifacts={}, logs=SETTINGS))
    progress = {"mm1": "progress", "step": 3, "steps": 9, "loss": 1.0, "losses": {"text": 1.0}, "grad_norm": 1.0}
    progress |= {"tokens_per_s": 5, "memory_bytes": 1, "skipped": 0, "spikes": 0, "eta_s": 1.0}
    from_rank = JsonFormatter({**OWN, "rank": 0}).format(logging.LogRecord("mm1", logging.INFO, "", 0, "saved %d", (4,), None))
    with process(sys.stderr, SETTINGS):
        for line in (json.dumps(progress), '{"mm1": "pause", "doing": "x", "limit_s": 1}', "a print", from_rank):
            output.take(line + "\n")
    shown = lines(capsys.readouterr().err)
    assert [item["message"] for item in shown] == [
        "step 3 of 9: loss 1.000 (text 1.000), 5 tokens/s, 0:00:01 left, gradient 1, 0.00 GB",
        "a print",
        "saved 4",
    ]
    assert shown[-1]["rank"] == 0 and (tmp_path / "progress").read_text() == "3/9\n"


STEP = """
    import warnings
    from pydantic import BaseModel
    from mm1_components.wrapper.declaration import Step
    from mm1_components.wrapper.execute import main
    class Inputs(BaseModel):
        pass
    class Outputs(BaseModel):
        number: int
    def run(inputs, context):
        warnings.warn("odd")
        return Outputs(number=context.logs.attempt / 0)
    main(Step(name="small", inputs=Inputs, outputs=Outputs, run=run, summary="Small.", cached=False))
"""


def test_a_step_logs_objects_only_and_says_its_attempt(tmp_path: Path) -> None:
    program = tmp_path / "small.py"
    program.write_text(textwrap.dedent(STEP))
    options = ["--log-format=json", "--run=r", "--task=t", f"--store={tmp_path}/store", f"--work={tmp_path}"]
    done = subprocess.run([sys.executable, str(program), *options], capture_output=True, text=True)
    warning, traceback, error = lines(done.stderr)
    for item in (warning, traceback, error):
        assert (item["run"], item["task"], item["attempt"]) == ("r", "t", 1)
    assert warning["level"] == "warning" and "odd" in warning["message"], "a library's"
    assert traceback["message"].endswith("ZeroDivisionError: division by zero\n")
    assert error["level"] == "error" and error["message"].startswith("small failed (unhandled, exit code 1)")
