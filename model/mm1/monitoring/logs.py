"""Logs as text for people, or as one JSON object per line for log collectors; without credentials in both forms.

::

    {"time": "2026-03-01T12:00:00.123+00:00", "level": "info", "run": "mm1-full-x7k2p", "task": "pretrain", "attempt": 1,
     "launch": 0, "rank": 0, "message": "saved the checkpoint of step 200"}
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from mm1.config.base import Config
from mm1.errors import redact

LogFormat = Literal["text", "json"]
TEXT = "%(asctime)s %(levelname)s %(message)s"
"""Log as text, in the notation of :mod:`logging`."""


class LogSettings(Config):
    """The form of a process's log, and what identifies the process in it."""

    format: LogFormat = "text"
    """text, or json."""
    run: str = ""
    """Name of the run; only in JSON, like the following."""
    task: str = ""
    """Name of the task in the run."""
    attempt: int | None = None
    """Attempt of the task, from 1."""
    launch: int | None = None
    """Launch of the ranks for the task, from 0; None in other processes."""

    def of_attempt(self, attempt: int) -> LogSettings:
        """Return the settings of an attempt of the task; as text they have no attempt."""
        return self.model_copy(update={"attempt": attempt}) if self.format == "json" else self

    def of_launch(self, launch: int) -> LogSettings:
        """Return the settings of a launch of the ranks; as text they have no launch."""
        return self.model_copy(update={"launch": launch}) if self.format == "json" else self

    def fields(self, rank: int | None = None) -> dict[str, Any]:
        """Return the fields that every line of a process has, without the empty ones.

        Args:
            rank: of the process in the training; None in other processes.
        """
        values = {"run": self.run, "task": self.task, "attempt": self.attempt, "launch": self.launch, "rank": rank}
        return {name: value for name, value in values.items() if value not in (None, "")}

    def whole_line(self, line: str) -> str:
        """Return a line of another program's output as it goes into this log: redacted; in JSON, text becomes a message.

        Args:
            line: with its line end, if it has one.
        """
        line = redact(line)
        if self.format == "text" or line.startswith('{"'):
            return line
        return _object(time.time(), "INFO", self.fields(), line.rstrip("\r\n")) + "\n"


class TextFormatter(logging.Formatter):
    """Formats each record as text without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a traceback follows its message."""
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats each record as a JSON object on one line.

    Args:
        fields: of every line, after its time and level.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        self.fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a traceback follows its message."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        return _object(record.created, record.levelname, self.fields, redact(message))


def _object(seconds: float, level: str, fields: dict[str, Any], message: str) -> str:
    when = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": when, "level": level.lower(), **fields, "message": message})


def configure(
    stream: TextIO,
    settings: LogSettings,
    *,
    rank: int | None = None,
    text_format: str = TEXT,
    level: int = logging.INFO,
) -> None:
    """Send the log of this process to a stream, unless it goes somewhere already; a second call only sets the form.

    Warnings of libraries are part of the log. Tracebacks of unexpected exceptions have no credentials either.

    Args:
        stream: standard output or error.
        settings: text or JSON.
        rank: of this process in the training; None in other processes.
        text_format: of a log as text, in the notation of :mod:`logging`.
        level: lowest level.
    """
    logging.basicConfig(stream=stream, level=level, format=text_format)
    sys.excepthook = _print_exception
    threading.excepthook = lambda given: _print_exception(given.exc_type, given.exc_value, given.exc_traceback)
    logging.captureWarnings(True)
    is_json = settings.format == "json"
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(JsonFormatter(settings.fields(rank)) if is_json else TextFormatter(text_format))


def _print_exception(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def add_fields(**fields: Any) -> None:
    """Add fields to the lines of this process from now on; a log as text stays as it is."""
    for handler in logging.root.handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.fields = handler.formatter.fields | fields
