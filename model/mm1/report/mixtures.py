"""Composition of mixtures, and counts of samples dropped by filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mm1.manifests import DataMix, MixSource, RawData, SourceData
from mm1.report.charts import source_slot
from mm1.report.collect import RunStory

SHARES = ("fill", "share", "ratio", "padding")
NAMES = {
    "fill": "fill",
    "documents_per_sequence": "docs/seq.",
    "images_per_sequence": "images/seq.",
    "tokens_per_sequence": "tokens/seq.",
    "labels_per_sequence": "labels/seq.",
    "cut_share": "cut docs",
    "sequences": "measured sequences",
    "documents_begun": "docs begun/seq.",
    "long_documents": "long docs",
    "token_share": "share of tokens",
    "label_share": "share of labels",
}
"""Labels of the packing statistics, in the page's order; further statistics come after them."""
MEANINGS = {
    "fill": "share of a sequence that holds tokens of documents; the rest is padding",
    "documents_per_sequence": "documents in a sequence, whole or in part",
    "images_per_sequence": "images in a sequence",
    "tokens_per_sequence": "tokens in a sequence",
    "cut_share": "share of the documents that continue in another sequence",
    "sequences": "number of sequences that were measured",
    "documents_begun": "documents of the source that begin in a sequence, on average over the sequences of all sources",
    "long_documents": "documents of the source that are longer than a sequence",
    "token_share": "share of the source in the tokens of all sequences",
    "labels_per_sequence": "tokens with loss in a sequence",
    "label_share": "share of the source in the tokens with loss of all sequences",
}
"""Explanations of the packing statistics."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A source in a mixture."""

    source: MixSource
    share: float
    """Share of the sequences."""
    slot: int
    """Colour."""
    packing: dict[str, str]
    """Statistics of this source's sequences, by name."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured quantity."""

    name: str
    text: str
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class MixtureView:
    """A mixture for the templates."""

    task: str
    digest: str
    mix: DataMix
    parts: list[Part]
    packing: list[Figure]
    """Statistics over all sequences."""
    by_source: dict[str, str]
    """Names of the per-source statistics -> what they mean; empty for a single source."""


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Effect of the filters on one source."""

    name: str
    slot: int
    data: SourceData
    dropped: list[tuple[str, int]]
    """Filter or kind of odd row -> number of dropped samples, largest first."""
    removed: list[tuple[str, int]]
    """Filter -> number of images and texts removed from documents, largest first."""
    left_out: list[tuple[str, int]]
    """Reason -> number of files (and members of archives) that are not read, largest first."""


def mixtures(story: RunStory) -> list[MixtureView]:
    """List all mixtures of the run, those with the most sources first."""
    views = [_mixture(stored.producer, stored.digest, mix) for stored, mix in story.of(DataMix)]
    return sorted(views, key=lambda mixture: -len(mixture.parts))


def filters(story: RunStory) -> list[Filtered]:
    """List the samples read, dropped and kept for each source."""
    return [
        Filtered(
            name=name,
            slot=source_slot(name, list(raw.sources)),
            data=data,
            dropped=_largest_first(data.dropped),
            removed=_largest_first(data.removed),
            left_out=_largest_first(data.left_out),
        )
        for _, raw in story.of(RawData)
        for name, data in raw.sources.items()
    ]


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((what, count) for what, count in counts.items() if count), key=lambda item: -item[1])


def _mixture(task: str, digest: str, mix: DataMix) -> MixtureView:
    total = sum(source.weight for source in mix.sources) or 1.0
    names = [source.name for source in mix.sources]
    order = list(NAMES)
    short = {name: name.rpartition("/")[2] for name in mix.packing}
    ordered = sorted(mix.packing, key=lambda name: order.index(short[name]) if short[name] in order else len(order))
    figures = {name: _figure(short[name], mix.packing[name]) for name in ordered}
    parts = [
        Part(
            source=source,
            share=source.weight / total,
            slot=source_slot(source.name, names),
            packing={figure.name: figure.text for name, figure in figures.items() if name.rpartition("/")[0] == source.name},
        )
        for source in mix.sources
    ]
    several = sum(source.weight > 0 for source in mix.sources) > 1  # with a single source, its statistics equal the totals
    return MixtureView(
        task=task,
        digest=digest,
        mix=mix,
        parts=parts,
        packing=[figure for name, figure in figures.items() if "/" not in name],
        by_source={figure.name: figure.meaning for name, figure in figures.items() if "/" in name} if several else {},
    )


def _figure(name: str, value: float) -> Figure:
    """Format a packing statistic: fractions as percentages, others as plain numbers."""
    label, meaning = NAMES.get(name, name.replace("_", " ")), MEANINGS.get(name, "")
    if any(word in name for word in SHARES) and 0 <= value <= 1:
        return Figure(name=label.removesuffix(" share"), text=f"{value:.1%}", meaning=meaning)
    return Figure(name=label, text=f"{value:,.0f}" if value == int(value) else f"{value:,.2f}", meaning=meaning)
