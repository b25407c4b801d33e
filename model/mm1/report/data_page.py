"""A page about data alone: statistics of a mixture (or of filtered data), and samples as the model gets them.

DataMix or RawData -> statistics (also for the terminal) -> tables, packed sequences -> one self-contained HTML page
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mm1.data.load.open_mix import open_mix
from mm1.data.load.statistics import epochs_of
from mm1.data.source_names import groups_of, named_shards
from mm1.errors import ConfigurationError
from mm1.manifests import DataMix, RawData, Shard, digest_of_manifest, load_digest
from mm1.report.album import Album
from mm1.report.charts import source_slot
from mm1.report.config import ReportConfig
from mm1.report.page import environment
from mm1.report.samples import SequenceView, sequence_of, single_documents
from mm1.store.base import Store

EPOCH_SEQUENCES = 10_000
"""Number of sequences that the epochs refer to."""


@dataclass(frozen=True)
class FigureTable:
    """A table of statistics."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    dots: bool = False
    """Whether the first column contains source names."""


def raw_of(store: Store, mix: DataMix) -> RawData:
    """Load the RawData of a mixture.

    Raises:
        ConfigurationError: the mixture's parent is not RawData.
    """
    raw = load_digest(store, mix.raw)
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"the mixture's parent {mix.raw[:12]} is not RawData")
    return raw


def figures(store: Store, manifest: DataMix | RawData) -> list[FigureTable]:
    """Create tables about a mixture and its data, or about data alone."""
    if isinstance(manifest, DataMix):
        return [_mixture(manifest), *_data(raw_of(store, manifest))]
    return _data(manifest)


def _mixture(mix: DataMix) -> FigureTable:
    columns = (
        "source",
        "weight",
        "sequences",
        "tokens",
        "labels",
        "fill",
        "tokens/seq",
        "images/seq",
        "documents/seq",
        "cut",
        "epochs/10k",
        *(["samples", "held out"] if mix.holdout else []),
    )
    table = FigureTable("Mixture", columns, dots=True)
    epochs, packing = epochs_of(mix, EPOCH_SEQUENCES), mix.packing
    for source in mix.sources:
        prefix = f"{source.name}/"
        labels = packing.get(prefix + "label_share")
        shares = (f"{source.weight:.3f}", f"{source.share:.3f}", f"{packing.get(prefix + 'token_share', 0):.3f}")
        counts = [f"{source.num_samples:,}", f"{source.num_held_out:,}"] if mix.holdout else []
        row = (*shares, "" if labels is None else f"{labels:.3f}", *_packing(packing, prefix))
        table.rows.append((source.name, *row, f"{epochs.get(source.name, 0):.2f}", *counts))
    sums = [sum(getattr(source, name) for source in mix.sources) for name in ("num_samples", "num_held_out")]
    counts = [f"{count:,}" for count in sums] if mix.holdout else []
    table.rows.append(("all", *["1.000"] * 4, *_packing(packing, ""), "", *counts))
    return table


def _packing(packing: dict[str, float], prefix: str) -> tuple[str, ...]:
    names = ("fill", "tokens_per_sequence", "images_per_sequence", "documents_per_sequence", "cut_share")
    forms = ("{:.3f}", "{:,.1f}", "{:.2f}", "{:.2f}", "{:.1%}")
    return tuple(form.format(packing.get(prefix + name, 0)) for name, form in zip(names, forms, strict=True))


def _data(raw: RawData) -> list[FigureTable]:
    kept = FigureTable(
        "Data", ("source", "format", "preset", "files", "read", "kept", "images", "text tokens", "shards", "MB"), dots=True
    )
    dropped = FigureTable("Dropped", ("filter or odd row", "source", "dropped", "example"))
    removed = FigureTable("Removed from documents", ("filter", "source", "images, texts", "example"))
    left_out = FigureTable("Not read", ("reason", "source", "number", "example"))
    for name, source in raw.sources.items():
        read = (f"{source.num_files:,}", f"{source.num_read:,}")
        kept.rows.append((name, source.format, source.preset, *read, *_counts(source.shards)))
        for group in groups_of(source.shards):
            subsource = f"{name}/{group}"
            kept.rows.append((subsource, "", "", "", "", *_counts(named_shards(raw, subsource))))
        for table, reasons in ((dropped, source.dropped), (removed, source.removed), (left_out, source.left_out)):
            for reason, count in reasons.items():
                table.rows.append((reason, name, f"{count:,}", next(iter(source.examples.get(reason, ())), "")))
    return [kept, *(table for table in (dropped, removed, left_out) if table.rows)]


def _counts(shards: Sequence[Shard]) -> tuple[str, ...]:
    sums = (sum(getattr(shard, name) for shard in shards) for name in ("num_samples", "num_images", "num_text_tokens"))
    megabytes = sum(shard.tar.num_bytes for shard in shards) / 1e6
    return (*(f"{count:,}" for count in sums), f"{len(shards):,}", f"{megabytes:,.1f}")


def render_data(store: Store, manifest: DataMix | RawData, *, first: int = 0, sequences: int = 8) -> str:
    """Render the page.

    Args:
        store: the store with the manifest and its blobs.
        manifest: a mixture (its packed sequences are shown) or data (their documents are shown).
        first: index of the first sequence.
        sequences: number of sequences.
    """
    config = ReportConfig(show_tokens=True, documents_per_source=64, image_budget_bytes=12_000_000)
    album = Album(config=config)
    if isinstance(manifest, DataMix):
        lead = "Packed sequences in the order of training."
        names = [source.name for source in manifest.sources]
        samples = _sequences(store, manifest, album, config, first, sequences)
        cards = _cards(manifest)
    else:
        lead = "The first documents of each source."
        names = list(manifest.sources)
        few = config.model_copy(update={"documents_per_source": sequences})
        samples = [single_documents(store, manifest, name, album, few) for name in names]
        cards = [("samples", f"{sum(source.num_samples for source in manifest.sources.values()):,}", "after filtering")]
    views: dict[str, Any] = {
        "title": "Mixture" if isinstance(manifest, DataMix) else "Data",
        "lead": lead,
        "digest": digest_of_manifest(manifest),
        "cards": cards,
        "tables": figures(store, manifest),
        "samples": samples,
        "show_tokens": config.show_tokens,
        "slots": {name: source_slot(name, names) for name in names},
    }
    return environment().get_template("data.html.j2").render(views)


def _sequences(
    store: Store, mix: DataMix, album: Album, config: ReportConfig, first: int, count: int
) -> Sequence[SequenceView]:
    opened = open_mix(store, mix, raw_of(store, mix))
    views = []
    for number in range(first, first + count):
        planned = opened.plan[number]
        name = mix.sources[planned.source].name
        views.append(sequence_of(opened, planned.spans, name, album, config, f"this mixture, number {number:,}"))
    return views


def _cards(mix: DataMix) -> list[tuple[str, str, str]]:
    packing = mix.packing
    bound = f"{mix.max_sequences:,}" if mix.max_sequences is not None else "unlimited"
    return [
        ("fill", f"{packing.get('fill', 0):.1%}", f"of {mix.sequence_length:,} tokens per sequence"),
        ("images", f"{packing.get('images_per_sequence', 0):.1f}", f"per sequence, at most {mix.max_images}"),
        (
            "documents",
            f"{packing.get('documents_per_sequence', 0):.1f}",
            "per sequence" if mix.one_source else "per sequence, sources mixed",
        ),
        (
            "sequences",
            bound,
            f"at most {mix.max_epochs:g} epochs of a source" if mix.max_epochs else "sources repeat as needed",
        ),
        ("held out", f"{sum(source.num_held_out for source in mix.sources):,}", "samples that no sequence contains"),
        ("selection", mix.snapshot.get("thresholds", "all shards"), mix.snapshot.get("as_of", "")),
    ]
