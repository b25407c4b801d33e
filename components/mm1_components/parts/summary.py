"""What ingest says about its result: the feature store's rows, the run record, and ``summary.md``."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mm1_components.wrapper.declaration import Context

if TYPE_CHECKING:
    from mm1.manifests import IngestPlan, PlannedSource, RawData, SourceData


def publish_data(raw: RawData, context: Context) -> str:
    """Publish the data, push it to the feature store and write the summary."""
    from datetime import UTC, datetime

    from mm1.data.features.rows import push_raw

    uri = context.publish(raw)
    push_raw(context.store, raw, datetime.now(UTC))
    context.artifact("summary.md").write_text(summary(raw))
    context.note(
        samples={name: source.num_samples for name, source in raw.sources.items()},
        images={name: source.num_images for name, source in raw.sources.items()},
        bytes=sum(shard.tar.num_bytes for source in raw.sources.values() for shard in source.shards),
    )
    return uri


def summary(raw: RawData) -> str:
    """Render the summary: samples kept per source, and samples dropped per filter, with examples."""
    presets = ", ".join(f"`{preset}`" for preset in dict.fromkeys(source.preset for source in raw.sources.values()))
    lines = [
        "# Ingested data",
        "",
        f"Filter preset {presets}.",
        "",
        "| source | format | files | read | kept | images | text tokens | shards | MB | quality |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, source in raw.sources.items():
        megabytes = sum(shard.tar.num_bytes for shard in source.shards) / 1e6
        scores = [shard.features.get("quality", 0.0) for shard in source.shards]
        lines.append(
            f"| {name} | {source.format} | {source.num_files:,} | {source.num_read:,} | {source.num_samples:,} "
            f"| {source.num_images:,} | {source.num_text_tokens:,} | {len(source.shards)} | {megabytes:,.1f} "
            f"| {_mean(scores):.2f} |"
        )
    for name, source in raw.sources.items():
        unjudged = sum(shard.features.get("other_language_share", 0.0) * shard.num_samples for shard in source.shards)
        if round(unjudged):
            lines += ["", f"{name}: {round(unjudged):,} of the samples kept are in a language without a list of stop words."]
    lines += _section("Not read", "reason", raw.sources, {name: source.left_out for name, source in raw.sources.items()})
    if removed := {name: source.removed for name, source in raw.sources.items() if source.removed}:
        lines += _section("Removed from documents", "filter", raw.sources, removed)
    dropped = {name: source.dropped for name, source in raw.sources.items()}
    return "\n".join([*lines, *_section("Dropped", "filter or odd row", raw.sources, dropped)]) + "\n"


def _section(
    title: str,
    column: str,
    sources: Mapping[str, SourceData] | Mapping[str, PlannedSource],
    counts: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Format a section with a table of counts by source and reason, with examples."""
    lines = ["", f"## {title}", "", f"| source | {column} | number | for example |", "|---|---|---:|---|"]
    for name, reasons in counts.items():
        examples = {reason: in_table("; ".join(sources[name].examples.get(reason, ()))) for reason in reasons}
        lines += [f"| {name} | {reason} | {count:,} | {examples[reason]} |" for reason, count in reasons.items()]
        if not reasons:
            lines.append(f"| {name} | none | 0 | |")
    return lines


_MARKUP = {ord(character): f"&#{ord(character)};" for character in "|[]*`\\"}


def in_table(text: str) -> str:
    """Escape a text for a cell of a Markdown table: no line breaks, control characters or markup."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return html.escape(plain, quote=False).translate(_MARKUP)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def plan_summary(plan: IngestPlan) -> str:
    """Render what each source holds."""
    lines = ["# Raw files", "", "| source | formats | files | parts | MB |", "|---|---|---:|---:|---:|"]
    for name, source in plan.sources.items():
        parts = [part for part in plan.parts if part.source == name]
        formats = ", ".join(dict.fromkeys(part.format for part in parts))
        lines.append(f"| {name} | {formats} | {source.num_files:,} | {len(parts):,} | {source.num_bytes / 1e6:,.1f} |")
    lines += _section("Not read", "reason", plan.sources, {name: source.left_out for name, source in plan.sources.items()})
    return "\n".join(lines) + "\n"
