r"""The work of a step: look up its result, or do it and remember the result.

::

    checks -> key -> cache hit? ----------------------> outputs
                         \-> run (resumable) -> cache entry

The wrapper of a process (:mod:`mm1_components.wrapper.execute`) and a step that runs other steps
(:mod:`mm1_components.wrapper.nested`) do it in the same way, so the same work has the same key wherever it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mm1.config.resolve import validate
from mm1.errors import CheckpointError, DataError
from mm1.monitoring.logs import LogSettings
from mm1.store.base import Store
from mm1.store.scratch import scratch_folder
from mm1_components.wrapper import records
from mm1_components.wrapper.arguments import placement_fields
from mm1_components.wrapper.cache import cache_key, code_digest
from mm1_components.wrapper.checks import run_checks
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.entries import Result, entry_name, recall, remember, write_artifacts
from mm1_components.wrapper.records import Record
from mm1_components.wrapper.sources import fingerprints

log = logging.getLogger("mm1")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a step runs, and what it writes in addition to its result."""

    store: Store
    scratch: Path
    """Parent of its scratch folder."""
    launcher: str = ""
    """How to start ranks on a cluster; empty: on this machine."""
    metrics_port: int | None = None
    """Port for the metrics of a training on this machine."""
    logs: LogSettings = field(default_factory=LogSettings)
    """The form of the log."""
    use_cache: bool = True
    progress_file: Path | None = None
    artifacts: Mapping[str, Path | None] = field(default_factory=dict)
    """Files to write artifacts to."""


def perform(step: Step[Any, Any], given: Mapping[str, Any], record: Record, around: Surroundings) -> dict[str, Any]:
    """Return the outputs of a step, from the cache or by running it; complete its record.

    Args:
        step: the declaration.
        given: inputs, as text or values; omitted ones keep their defaults.
        record: record of the task, updated in place.
        around: where it runs.

    Raises:
        Mm1Error: invalid inputs, or an error of the step.
    """
    store = around.store
    inputs = validate(step.inputs, dict(given), f"{step.name} inputs")
    values = inputs.model_dump(mode="json")
    launcher = around.launcher if step.distributed else ""
    run_checks(step, values | {"launcher": launcher})
    code = code_digest(step.module)
    decisive = {name: value for name, value in values.items() if name not in placement_fields(step.inputs)}
    if step.state:
        decisive["state"] = step.state(inputs, store)
    key = cache_key(step.name, code, decisive, fingerprints(step.inputs, values))
    record |= {"inputs": values, "code": code, "cache_key": key, "cache_hit": False}
    artifacts = {name: around.artifacts.get(name) for name in step.artifacts}
    entry = entry_name(step.name, key)
    if step.cached and around.use_cache and (result := _recall(step, store, entry, inputs, artifacts)) is not None:
        log.info("%s: cached (%s), nothing to do", step.name, key[:12])
        stored = {name: ref.model_dump() for name, ref in result.artifacts.items()}
        outputs = step.recalled(inputs, result.outputs) if step.recalled else result.outputs
        record |= {"cache_hit": True, "outputs": outputs, "artifacts": stored}
        return outputs
    records.save(store, record)  # with its inputs, which must not be removed while it runs
    with scratch_folder(around.scratch, key) as work:
        context = Context(
            store=store,
            run=record["run"],
            task=record["task"],
            key=key,
            code=code,
            work=work,
            artifacts={name: path or work / "artifacts" / name for name, path in artifacts.items()},
            progress_file=around.progress_file,
            launcher=launcher,
            metrics_port=around.metrics_port,
            logs=around.logs.of_attempt(record["attempts"]),
            use_cache=around.use_cache,
        )
        outputs, stored = _run(step, inputs, context, record)
    record |= {"outputs": outputs, "artifacts": stored, "cache_hit": bool(context.nested) and all(context.nested)}
    if step.cached:
        remember(store, entry, outputs, stored, code)
    return outputs


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
    step: Step[Any, Any], store: Store, entry: str, inputs: BaseModel, artifacts: Mapping[str, Path | None]
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
