"""Comparison of runs: inputs, results, scores, facts, and losses step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mm1.errors import Mm1Error
from mm1.lineage.records import RunRecords
from mm1.manifests import Checkpoint, DataMix, EvalReport, RawData, load_digest, split_uri
from mm1.store.base import Store
from mm1.store.open import find_store

Facts = dict[str, Any]
"""Name -> value, for one run."""


def compare_runs(store: Store, runs: Sequence[RunRecords]) -> dict[str, list[Facts]]:
    """Compare runs by section: section -> the facts of each run."""
    return {
        "inputs": [inputs(run) for run in runs],
        "made": [results(store, run) for run in runs],
        "scores": [scores(store, run) for run in runs],
        "facts": [facts(run) for run in runs],
    }


class LossDifference(NamedTuple):
    """Difference of one task's losses between two runs, over the steps that both have."""

    task: str
    run: str
    num_steps: int
    num_missing: int
    """Steps that only one of the runs has."""
    largest: float
    """Largest relative difference; infinite if only one of the two losses is a number."""
    step: int | None
    """Step of the largest difference; None if there is no difference."""

    def within(self, tolerance: float) -> bool:
        """Whether both runs have the same steps and their losses agree within a relative tolerance."""
        return not self.num_missing and self.largest <= tolerance


def compare_losses(store: Store, runs: Sequence[RunRecords]) -> Iterator[LossDifference]:
    """Compare the losses of each run with those of the first one, task by task and step by step."""
    first, *others = (_losses(store, run) for run in runs)
    for run, losses in zip(runs[1:], others, strict=True):
        for task in dict.fromkeys([*first, *losses]):
            left, right = first.get(task, {}), losses.get(task, {})
            common = sorted(left.keys() & right.keys())
            differences = {step: _relative(left[step], right[step]) for step in common}
            largest = max(differences.values(), default=0.0)
            step = next((step for step in common if differences[step] == largest > 0), None)
            yield LossDifference(task, run.name, len(common), len(left.keys() ^ right.keys()), largest, step)


def _losses(store: Store, run: RunRecords) -> dict[str, dict[int, float]]:
    """Collect task -> step -> loss, for all training tasks."""
    import pyarrow.parquet as parquet

    losses = {}
    for task, uri in run.manifests.items():
        manifest = _load(store, uri)
        if isinstance(manifest, Checkpoint) and manifest.history is not None:
            table = parquet.read_table(store.local_path(manifest.history), columns=["step", "loss"]).to_pydict()
            losses[task] = dict(zip(table["step"], table["loss"], strict=True))
    return losses


def _relative(left: float, right: float) -> float:
    if left == right or (math.isnan(left) and math.isnan(right)):
        return 0.0
    difference = abs(left - right) / max(abs(left), abs(right))
    return difference if math.isfinite(difference) else math.inf


def inputs(run: RunRecords) -> Facts:
    """Collect the inputs of all tasks; addresses of manifests are shortened to digests."""
    return {f"{task}.{name}": _short(value) for task, record in run.tasks.items() for name, value in record.inputs.items()}


def facts(run: RunRecords) -> Facts:
    """Collect the speeds, sizes and durations recorded by the tasks, and the tasks' own run times."""
    values: Facts = {}
    for task, record in run.tasks.items():
        values |= {f"{task}.{name}": value for name, value in record.facts.items() if not isinstance(value, dict | list)}
        if not record.cache_hit and record.seconds is not None:
            values[f"{task}.seconds"] = record.seconds
    return values


def results(store: Store, run: RunRecords) -> Facts:
    """Collect the sizes of the tasks' results, and the last losses."""
    values: Facts = {}
    for task, uri in run.manifests.items():
        manifest = _load(store, uri)
        if isinstance(manifest, RawData):
            values |= {f"{task}.{name}.samples": source.num_samples for name, source in manifest.sources.items()}
        elif isinstance(manifest, DataMix):
            values |= {f"{task}.{name}": value for name, value in manifest.packing.items()}
        elif isinstance(manifest, Checkpoint):
            values |= {
                f"{task}.{name}": getattr(manifest, name) for name in ("recipe", "step", "tokens_seen", "num_parameters")
            }
            values |= {f"{task}.{name}": value for name, value in last_losses(store, manifest).items()}
    return values


def last_losses(store: Store, checkpoint: Checkpoint) -> Facts:
    """Read the last row of a checkpoint's history: losses, validation losses and gradient norm."""
    if checkpoint.history is None:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(store.local_path(checkpoint.history))
    except (Mm1Error, pa.ArrowException, OSError):
        return {}  # missing or damaged: the rest can still be compared
    if not table.num_rows:
        return {}
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    return {name: value for name, value in last.items() if name.startswith(("loss", "grad", "validation"))}


def scores(store: Store, run: RunRecords) -> Facts:
    """Collect all scores with standard errors."""
    values: Facts = {}
    for task, uri in run.manifests.items():
        manifest = _load(store, uri)
        if isinstance(manifest, EvalReport):
            for score in manifest.scores:
                control = "" if score.control == "none" else f" ({score.control})"
                name = f"{task}: {score.task}/{score.shots}/{score.metric}{control}"
                values[name] = f"{score.value:.3f} ± {score.stderr:.3f}"
    return values


def _load(store: Store, uri: str) -> object:
    try:
        address, digest = split_uri(uri)
        return load_digest(store if address == store.uri else find_store(address), digest)
    except Mm1Error:
        return None  # garbage-collected, or in an unreachable store: the rest can still be compared


def _short(value: Any) -> Any:
    if isinstance(value, str) and "/manifests/" in value:
        return " ".join(word.rsplit("/", 1)[-1][:12] for word in value.split())
    return value
