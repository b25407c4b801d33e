"""Two runs side by side: inputs, what was made, scores, facts."""

from __future__ import annotations

from typing import Any

from mm1.errors import Mm1Error
from mm1.lineage.records import RunRecords
from mm1.manifests import Checkpoint, DataMix, EvalReport, RawData, load_digest, split_uri
from mm1.store.base import Store
from mm1.store.open import find_store

Facts = dict[str, Any]
"""Name -> value, of one run."""


def compare_runs(store: Store, first: RunRecords, second: RunRecords) -> dict[str, tuple[Facts, Facts]]:
    """All that can be compared: section -> the facts of both runs."""
    return {
        "inputs": (inputs(first), inputs(second)),
        "made": (made(store, first), made(store, second)),
        "scores": (scores(store, first), scores(store, second)),
        "facts": (facts(first), facts(second)),
    }


def inputs(run: RunRecords) -> Facts:
    """Inputs of all tasks, addresses of manifests as digests."""
    return {f"{task}.{name}": _short(value) for task, record in run.tasks.items() for name, value in record.inputs.items()}


def facts(run: RunRecords) -> Facts:
    """Speeds, sizes and durations that the tasks noted, and their own times."""
    found: Facts = {}
    for task, record in run.tasks.items():
        found |= {f"{task}.{name}": value for name, value in record.facts.items() if not isinstance(value, dict | list)}
        if not record.cache_hit and record.seconds is not None:
            found[f"{task}.seconds"] = record.seconds
    return found


def made(store: Store, run: RunRecords) -> Facts:
    """Counts of what the tasks made, and the last losses."""
    found: Facts = {}
    for task, uri in run.manifests.items():
        manifest = _load(store, uri)
        if isinstance(manifest, RawData):
            found |= {f"{task}.{name}.samples": source.num_samples for name, source in manifest.sources.items()}
        elif isinstance(manifest, DataMix):
            found |= {f"{task}.{name}": value for name, value in manifest.packing.items()}
        elif isinstance(manifest, Checkpoint):
            found |= {f"{task}.{name}": getattr(manifest, name) for name in ("recipe", "step", "tokens_seen", "num_parameters")}
            found |= {f"{task}.{name}": value for name, value in last_losses(store, manifest).items()}
    return found


def last_losses(store: Store, checkpoint: Checkpoint) -> Facts:
    """The last row of a checkpoint's history: losses and gradient norm."""
    if checkpoint.history is None:
        return {}
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(store.local_path(checkpoint.history))
    except (Mm1Error, pa.ArrowException, OSError):
        return {}  # as below: the rest can still be compared
    if not table.num_rows:
        return {}
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    return {name: value for name, value in last.items() if name.startswith(("loss", "grad"))}


def scores(store: Store, run: RunRecords) -> Facts:
    """All scores, with standard errors."""
    found: Facts = {}
    for task, uri in run.manifests.items():
        manifest = _load(store, uri)
        if isinstance(manifest, EvalReport):
            for score in manifest.scores:
                control = "" if score.control == "none" else f" ({score.control})"
                name = f"{task}: {score.task}/{score.shots}/{score.metric}{control}"
                found[name] = f"{score.value:.3f} ± {score.stderr:.3f}"
    return found


def _load(store: Store, uri: str) -> object:
    try:
        address, digest = split_uri(uri)
        return load_digest(store if address == store.uri else find_store(address), digest)
    except Mm1Error:
        return None  # collected, or in a store that is out of reach: the rest can still be compared


def _short(value: Any) -> Any:
    if isinstance(value, str) and "/manifests/" in value:
        return " ".join(word.rsplit("/", 1)[-1][:12] for word in value.split())
    return value
