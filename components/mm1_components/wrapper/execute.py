r"""The wrapper around every step.

``python -m mm1_components.<step> --name value ...`` goes through here::

    parse -> open store -> key -> cache hit? ----------------------------> outputs, artifacts, record
                                     \-> run (retriable work, resumable) -> cache entry /
                                              \-> typed error -> record, exit code of its outcome class

Steps exchange parameters only: scalars and addresses of manifests. Paths are arguments (``--out.<name>``,
``--artifact.<name>``), because they differ between engines. Nothing below this file reads configuration from the environment.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

from mm1.config.resolve import validate
from mm1.errors import CheckpointError, DataError, Ending, Outcome, Preempted
from mm1.store.base import Store
from mm1.store.local import atomic_path
from mm1.store.open import open_store
from mm1.store.scratch import scratch_folder
from mm1_components.wrapper import records
from mm1_components.wrapper.arguments import build_parser, input_values, placement_fields
from mm1_components.wrapper.cache import cache_key, code_digest
from mm1_components.wrapper.checks import run_checks
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.entries import Result, entry_name, recall, remember, write_artifacts
from mm1_components.wrapper.records import Record
from mm1_components.wrapper.sources import fingerprints

log = logging.getLogger("mm1")


def main(step: Step[Any, Any], argv: Sequence[str] | None = None) -> None:
    """Run a step as a process and exit with the exit code of its outcome."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = build_parser(step).parse_args(argv)
    logging.Formatter.default_msec_format = None
    sys.exit(int(execute(step, arguments)))


def execute(step: Step[Any, Any], arguments: argparse.Namespace) -> Outcome:
    """Run a step from parsed arguments; every error is recorded and mapped to an outcome."""
    started = time.monotonic()
    record = records.new_record(arguments.run, arguments.task or step.name, step.name)
    store: Store | None = None
    with _stop_on_signals():
        try:
            records.check_run_name(arguments.run)
            store = open_store(arguments.store)
            if arguments.once and (previous := records.previous_final_outcome(store, record)):
                return previous
            records.save(store, record)
            _work(step, arguments, store, record)
            records.save_ending(store, record, Ending(outcome=Outcome.DONE), started)
            return Outcome.DONE
        except (Exception, SystemExit) as error:
            ending = Ending.of(error)
            if ending.outcome is Outcome.UNHANDLED:
                log.error("%s", traceback.format_exc())
            log.debug("caused by", exc_info=error)
            log.error("%s failed (%s, exit code %d): %s", step.name, ending.outcome.label, ending.outcome, ending.message)
            if store is not None:
                records.save_failure(store, record, ending, started)
            return ending.outcome


def _work(step: Step[Any, Any], arguments: argparse.Namespace, store: Store, record: Record) -> None:
    inputs = validate(step.inputs, input_values(step, arguments), f"{step.name} inputs")
    values = inputs.model_dump(mode="json")
    launcher = (arguments.launcher or "") if step.distributed else ""
    run_checks(step, values | {"launcher": launcher})
    code = code_digest(step.module)
    decisive = {name: value for name, value in values.items() if name not in placement_fields(step.inputs)}
    if step.state:
        decisive["state"] = step.state(inputs, store)
    key = cache_key(step.name, code, decisive, fingerprints(step.inputs, values))
    record |= {"inputs": values, "code": code, "cache_key": key, "cache_hit": False}
    artifacts = {name: getattr(arguments, f"artifact.{name}") for name in step.artifacts}
    entry = entry_name(step.name, key)
    if step.cached and not arguments.no_cache and (result := _recall(step, store, entry, inputs, artifacts)) is not None:
        log.info("%s: cached (%s), nothing to do", step.name, key[:12])
        stored = {name: ref.model_dump() for name, ref in result.artifacts.items()}
        record |= {"cache_hit": True, "outputs": result.outputs, "artifacts": stored}
        _write_outputs(arguments, result.outputs)
        return
    records.save(store, record)  # with its inputs, which must not be removed while it runs
    with scratch_folder(arguments.work or Path(tempfile.gettempdir()), key) as work:
        context = Context(
            store=store,
            run=arguments.run,
            task=record["task"],
            key=key,
            code=code,
            work=work,
            artifacts={name: path or work / "artifacts" / name for name, path in artifacts.items()},
            progress_file=arguments.progress,
            launcher=launcher,
            use_cache=not arguments.no_cache,
        )
        outputs, stored = _run(step, inputs, context, record)
    record |= {"outputs": outputs, "artifacts": stored}
    if step.cached:
        remember(store, entry, outputs, stored, code)
    _write_outputs(arguments, outputs)


def _run(step: Step[Any, Any], inputs: BaseModel, context: Context, record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do the work of a step; returns its outputs and its artifacts as blobs."""
    try:
        with records.signs_of_life(context.store, record):
            result = step.run(inputs, context)
    finally:
        record["facts"] = context.facts
    outputs = validate(step.outputs, result.model_dump()).model_dump(mode="json")
    files = {name: path for name, path in context.artifacts.items() if path.is_file()}
    return outputs, {name: context.store.put_file(path).model_dump() for name, path in files.items()}


def _recall(
    step: Step[Any, Any], store: Store, entry: str, inputs: BaseModel, artifacts: dict[str, Path | None]
) -> Result | None:
    """Return the remembered result of the step, after writing its artifacts; None if the step has to run."""
    result = recall(store, entry, step.outputs, step.kind)
    if result is None:
        return None
    problem = step.fits(inputs, result.manifest) if step.fits and result.manifest else ""
    try:
        write_artifacts(store, result.artifacts, artifacts)
    except (DataError, CheckpointError) as error:
        problem = problem or str(error)
    if problem:
        log.warning("%s/%s does not count, the work is done again: %s", store.uri, entry, problem)
    return None if problem else result


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
