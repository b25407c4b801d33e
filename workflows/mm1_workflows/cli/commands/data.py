"""``mm1 data stats`` and ``mm1 data show``: statistics and samples of a mixture or of filtered data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, Subcommands, command

from mm1.errors import ConfigurationError
from mm1.lineage.graph import ancestors, resolve
from mm1.lineage.records import read_run, run_names
from mm1.manifests import MANIFEST_NAME, DataMix, Manifest, RawData, digest_of_manifest, load_digest
from mm1.store.base import Store
from mm1.store.local import atomic_path
from mm1_workflows.cli.commands.data_score import DataScore
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option, existing_store, stored_run
from mm1_workflows.cli.output import console, plain, say, table

DataArg = Annotated[
    str,
    stored_run("A run; or a DataMix or RawData by address or digest (or its beginning)."),
]


@command(name="stats", help="Print mixture, fill, images and tokens per sequence, and dropped samples.")
@dataclass
class DataStats:
    """``mm1 data stats``."""

    uri: DataArg
    store: StoreArg = DEFAULT_STORE
    json: Annotated[bool, Arg(long=True, help="Print JSON.")] = False

    def __call__(self) -> int:
        """Print the statistics."""
        from mm1.data.load.statistics import few_labels
        from mm1.report.data_page import figures, raw_of

        store, manifest = find_data(self.store, self.uri)
        if self.json:
            raw = raw_of(store, manifest) if isinstance(manifest, DataMix) else manifest
            tree = {"mixture": manifest.model_dump(mode="json") if isinstance(manifest, DataMix) else None}
            tree["data"] = {name: source.model_dump(mode="json", exclude={"shards"}) for name, source in raw.sources.items()}
            say(console(), json.dumps(tree, indent=1, sort_keys=True))
            return 0
        output = console()
        say(output, f"{type(manifest).__name__} {digest_of_manifest(manifest)}")
        for figure in figures(store, manifest):
            listing = table(*figure.columns)
            for row in figure.rows:
                listing.add_row(*map(plain, row))
            say(output, f"\n{figure.title}")
            output.print(listing)
        if isinstance(manifest, DataMix):
            limit = f"{manifest.max_sequences:,}" if manifest.max_sequences is not None else "no limit"
            chosen = ", ".join(f"{name} {value}" for name, value in manifest.snapshot.items()) or "all"
            say(output, f"\nweights by {manifest.weights_by}; sequences: {limit}; shards: {chosen}")
            if manifest.holdout:
                shares = ", ".join(f"{name} {share!r}" for name, share in manifest.holdout.items())
                say(output, f"held out, as shares of the samples: {shares}")
            for note in few_labels(manifest):
                say(output, note)
        return 0


@command(name="show", help="Write a page with samples as the model sees them.")
@dataclass
class DataShow:
    """``mm1 data show``."""

    uri: DataArg
    store: StoreArg = DEFAULT_STORE
    sequences: Annotated[int, count_option("Number of sequences (for RawData: documents per source).", least=1)] = 8
    first: Annotated[int, count_option("Index of the first sequence.", least=0, value_name="I")] = 0
    output: Annotated[Path, Arg(long=True, value_name="FILE", help="File to write the page to.")] = Path("runs/data.html")

    def __call__(self) -> int:
        """Write the page."""
        from mm1.report.data_page import render_data

        store, manifest = find_data(self.store, self.uri)
        html = render_data(store, manifest, first=self.first, sequences=self.sequences)
        with atomic_path(self.output) as temporary:
            temporary.write_text(html)
        say(console(), f"written: {self.output}")
        return 0


def find_data(store_uri: str, uri: str) -> tuple[Store, DataMix | RawData]:
    """Return the store and the manifest of an address, a digest or a run; for a run, the mixture with the most sources.

    Raises:
        ConfigurationError: it does not exist, or is not data.
    """
    match = MANIFEST_NAME.match(uri)
    store = existing_store(match["store"] if match else store_uri)
    if match:
        manifests = [load_digest(store, match["digest"])]
    elif uri in run_names(store):
        manifests = [manifest for digest in resolve(store, uri) for manifest in ancestors(store, digest).values()]
    else:
        manifests = [load_digest(store, digest) for digest in resolve(store, uri)]
    data = [manifest for manifest in manifests if isinstance(manifest, DataMix | RawData)]
    if not data:
        if uri in run_names(store) and (failures := read_run(store, uri).failures):
            reasons = ", ".join(f"{task} failed ({outcome})" for task, outcome in failures.items())
            raise ConfigurationError(f"run {uri} made no data: {reasons}; see mm1 runs {uri}")
        kinds = ", ".join(sorted({type(manifest).__name__ for manifest in manifests})) or "nothing"
        raise ConfigurationError(f"{uri}: expected a DataMix or RawData, got {kinds}")
    return store, max(data, key=lambda manifest: (isinstance(manifest, DataMix), len(manifest.sources)))


@command(name="shards", help="List the shards of a RawData, or of what a DataMix was made from.")
@dataclass
class DataShards:
    """``mm1 data shards``."""

    uri: DataArg
    store: StoreArg = DEFAULT_STORE
    json: Annotated[bool, Arg(long=True, help="Print JSON.")] = False

    def __call__(self) -> int:
        """Print one row per shard; its SHA-256 is the name that ``mm1 data score`` takes."""
        store, manifest = find_data(self.store, self.uri)
        raw = load_digest(store, manifest.raw) if isinstance(manifest, DataMix) else manifest
        rows = list(shard_rows(raw))
        if self.json:
            say(console(), json.dumps(rows, indent=1))
            return 0
        listing = table("source", "shard", "samples", "images", "text tokens", "SHA-256")
        for row in rows:
            listing.add_row(*(f"{value:,}" if isinstance(value, int) else plain(value) for value in row.values()))
        console().print(listing)
        return 0


def shard_rows(raw: Manifest) -> Iterator[dict[str, str | int]]:
    """Source, name, counts and SHA-256 of each shard of a RawData.

    Raises:
        ConfigurationError: the manifest is not a RawData.
    """
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"expected a RawData, got {type(raw).__name__}")
    for source, data in raw.sources.items():
        for shard in data.shards:
            counts = shard.model_dump(include={"num_samples", "num_images", "num_text_tokens"})
            name = f"{source}/{shard.group}" if shard.group else source
            yield {"source": name, "shard": shard.name, **counts, "sha256": shard.tar.sha256}


@command(name="data", help="Inspect data: stats, show, shards, score.")
@dataclass
class Command:
    """``mm1 data``."""

    subcommand: Subcommands[DataStats | DataShow | DataShards | DataScore]
