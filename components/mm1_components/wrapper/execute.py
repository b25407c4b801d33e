r"""The wrapper around every step.

``python -m mm1_components.<step> --name value ...`` goes through here::

    parse -> open store -> work (from the cache, or done) -> outputs, artifacts, record
                             \-> typed error -> record, exit code of its outcome class

Steps exchange parameters only: scalars and addresses of manifests. Paths are arguments (``--out.<name>``,
``--artifact.<name>``), because they differ between engines. Nothing below this file reads configuration from the
environment, except OpenTelemetry's own variables (:mod:`mm1_components.wrapper.traces`).
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mm1.errors import Ending, Outcome, Preempted
from mm1.monitoring import logs
from mm1.monitoring.logs import LogSettings
from mm1.store.base import Store
from mm1.store.local import atomic_path
from mm1.store.open import open_store
from mm1_components.wrapper import records, traces
from mm1_components.wrapper.arguments import build_parser, input_values
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.work import Surroundings, perform

log = logging.getLogger("mm1")


def main(step: Step[Any, Any], argv: Sequence[str] | None = None) -> None:
    """Run a step as a process and exit with the exit code of its outcome."""
    arguments = build_parser(step).parse_args(argv)
    logging.Formatter.default_msec_format = None
    logs.configure(sys.stderr, _log_settings(step, arguments))
    sys.exit(int(execute(step, arguments)))


def _log_settings(step: Step[Any, Any], arguments: argparse.Namespace) -> LogSettings:
    if arguments.log_format == "text":
        return LogSettings()
    return LogSettings(format=arguments.log_format, run=arguments.run, task=arguments.task or step.name)


def execute(step: Step[Any, Any], arguments: argparse.Namespace) -> Outcome:
    """Run a step from parsed arguments; every error is recorded and mapped to an outcome."""
    with _stop_on_signals():
        outcome = _execute(step, arguments)
        traces.send()
        return outcome


def _execute(step: Step[Any, Any], arguments: argparse.Namespace) -> Outcome:
    record = records.new_record(arguments.run, arguments.task or step.name, step.name)
    try:
        records.check_run_name(arguments.run)
        store = open_store(arguments.store)
        if arguments.once and (previous := records.previous_final_outcome(store, record)):
            return previous
        with records.recorded(store, record):
            logs.add_fields(attempt=record["attempts"])
            _write_outputs(arguments, perform(step, input_values(step, arguments), record, _around(step, arguments, store)))
        return Outcome.DONE
    except (Exception, SystemExit) as error:
        ending = Ending.of(error)
        if ending.outcome is Outcome.UNHANDLED:
            log.error("%s", traceback.format_exc())
        log.debug("caused by", exc_info=error)
        log.error("%s failed (%s, exit code %d): %s", step.name, ending.outcome.label, ending.outcome, ending.message)
        return ending.outcome


def _around(step: Step[Any, Any], arguments: argparse.Namespace, store: Store) -> Surroundings:
    return Surroundings(
        store=store,
        scratch=arguments.work or Path(tempfile.gettempdir()),
        launcher=(arguments.launcher or "") if step.distributed else "",
        metrics_port=arguments.metrics_port if step.distributed else None,
        logs=_log_settings(step, arguments),
        use_cache=not arguments.no_cache,
        progress_file=arguments.progress,
        artifacts={name: getattr(arguments, f"artifact.{name}") for name in step.artifacts},
    )


def _write_outputs(arguments: argparse.Namespace, outputs: dict[str, Any]) -> None:
    for name, value in outputs.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        log.info("output %s = %s", name, text)
        if path := getattr(arguments, f"out.{name}"):
            with atomic_path(path) as temporary:
                temporary.write_text(text)


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Raise Preempted on the first SIGTERM or SIGINT.

    At a deadline, the kubelet and Argo each send a SIGTERM, so further ones are ignored: SIGKILL ends the grace period. A
    second Ctrl-C has its default effect.
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        """Not SIG_IGN, which programs started from now on would inherit."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, ignore if number == signal.SIGTERM else signal.SIG_DFL)
        raise Preempted(f"stopped by {signal.Signals(number).name}; run the same command again to continue")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
