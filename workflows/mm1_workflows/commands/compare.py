"""``mm1 compare A B``: two runs side by side, what differs first."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mm1.errors import Mm1Error
from mm1.manifests import Checkpoint, DataMix, EvalReport, RawData, load_digest, split_uri
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows import records
from mm1_workflows.commands.output import console, plain, say, table
from mm1_workflows.records import RunRecords
from mm1_workflows.tree.looking import Compare

Facts = dict[str, Any]


def compare(command: Compare) -> int:
    """Print inputs, facts, losses and scores of two runs."""
    shown = console()
    store = open_store(command.store)
    first, second = (records.read_run(store, name) for name in (command.first, command.second))
    sections = {
        "inputs": (inputs(first), inputs(second)),
        "made": (made(store, first), made(store, second)),
        "scores": (scores(store, first), scores(store, second)),
        "facts": (facts(first), facts(second)),
    }
    differing = 0
    for title, (left, right) in sections.items():
        names = [name for name in dict.fromkeys([*left, *right]) if command.all or left.get(name) != right.get(name)]
        differing += len(names)
        if names:
            shown.print(_section(title, names, left, right, command))
            shown.print()
    if not differing:
        say(shown, f"{first.name} and {second.name} do not differ")
    return 0


def inputs(run: RunRecords) -> Facts:
    """Inputs of all tasks, addresses of manifests as digests."""
    return {
        f"{task}.{name}": _short(value)
        for task, record in run.tasks.items()
        for name, value in (record.get("inputs") or {}).items()
    }


def facts(run: RunRecords) -> Facts:
    """Speeds, sizes and durations that the tasks noted, and their own times."""
    found: Facts = {}
    for task, record in run.tasks.items():
        found |= {
            f"{task}.{name}": value for name, value in (record.get("facts") or {}).items() if not isinstance(value, dict | list)
        }
        if not record.get("cache_hit") and "seconds" in record:
            found[f"{task}.seconds"] = record["seconds"]
    return found


def made(store: Store, run: RunRecords) -> Facts:
    """Counts of what the tasks made, and the last losses."""
    found: Facts = {}
    for task, uri in records.outputs(run).items():
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
    import pyarrow.parquet as parquet

    rows = parquet.read_table(store.local_path(checkpoint.history)).slice(-1).to_pylist() if checkpoint.history else []
    return {name: value for name, value in (rows[-1] if rows else {}).items() if name.startswith(("loss", "grad"))}


def scores(store: Store, run: RunRecords) -> Facts:
    """All scores, with standard errors."""
    found: Facts = {}
    for task, uri in records.outputs(run).items():
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
        return load_digest(store if address == store.uri else open_store(address), digest)
    except Mm1Error:
        return None  # collected, or in a store that is out of reach: the rest can still be compared


def _section(title: str, names: list[str], left: Facts, right: Facts, command: Compare) -> Table:
    listing = table(title, command.first, command.second, "change")
    for name in names:
        old, new = left.get(name), right.get(name)
        style = "" if old == new else "bold"
        listing.add_row(*map(plain, (name, _text(old), _text(new), _change(old, new))), style=style)
    return listing


def _change(old: Any, new: Any) -> str:
    try:
        before, after = (float(str(value).split(" ± ")[0]) for value in (old, new))
    except ValueError:
        return ""
    return f"{after - before:+.4g}" if before != after else ""


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> Any:
    if isinstance(value, str) and "/manifests/" in value:
        return " ".join(word.rsplit("/", 1)[-1][:12] for word in value.split())
    return value
