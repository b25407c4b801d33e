"""The summary of a mixture as Markdown: shares, packing, held-out samples, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mm1.data.load.image_tiles import ImageTiles
from mm1.data.load.sets import SOURCE, plan, presets
from mm1.data.load.statistics import epochs_of
from mm1.data.source_names import parent_of, samples_by_group
from mm1.manifests import DataMix, RawData

SHOWN_SEQUENCES = 10_000
"""Number of sequences for which the summary reports epochs."""
UNITS = {"label": "labels (tokens with loss)"}


def summary(mix: DataMix, raw: RawData, num_shards: Sequence[int], notes: Sequence[str], weights: str = "") -> str:
    """Render the summary.

    Args:
        mix: the measured mixture.
        raw: its data.
        num_shards: number of shards of each source.
        notes: sentences on what needs attention.
        weights: the weights as given; for a preset of sets, its plan is shown.
    """
    figures, epochs = mix.packing, epochs_of(mix, SHOWN_SEQUENCES)
    lines = [
        "# Mixture",
        "",
        f"Sequences of {mix.sequence_length:,} tokens with at most {mix.max_images} images of {mix.image_tokens} tokens, "
        f"{mix.image_size_px} px a side{_layout(mix)}; {'one source each' if mix.one_source else 'sources share sequences'}, "
        f"{'with attention across documents' if mix.cross_document_attention else 'documents isolated'}. "
        f"Order seed {mix.order_seed}. Weights are shares of {UNITS.get(mix.weights_by, f'{mix.weights_by}s')}.",
        f"Measured over the first {int(figures['sequences']):,} sequences.",
        "",
        "| source | weight | sequences | tokens | labels | shards | samples | held out | fill | tokens | images | documents "
        f"| cut | epochs in {SHOWN_SEQUENCES:,} sequences |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for source, shards in zip(mix.sources, num_shards, strict=True):
        prefix = f"{source.name}/"
        label_share = figures.get(f"{prefix}label_share")
        shares = [f"{source.weight:.3f}", f"{source.share:.3f}", f"{figures[f'{prefix}token_share']:.3f}"]
        shares += ["" if label_share is None else f"{label_share:.3f}"]
        shares += [f"{shards} of {len(raw.sources[parent_of(source.name)].shards)}"]
        shares += [f"{source.num_samples:,}", f"{source.num_held_out:,}"]
        lines.append(_row(source.name, shares, figures, prefix, f"{epochs[source.name]:.2f}"))
    samples, held_out = (sum(getattr(source, name) for source in mix.sources) for name in ("num_samples", "num_held_out"))
    lines.append(_row("all", ["1.000", "1.000", "1.000", "1.000", "", f"{samples:,}", f"{held_out:,}"], figures, "", ""))
    lines += [
        "",
        "Shares of sequences, of all tokens and of the tokens with loss, then means per sequence. Samples: those trained on. "
        "Cut: share of pieces of longer documents.",
    ]
    lines += [f"\n- {note}." if number == 0 else f"- {note}." for number, note in enumerate(notes)]
    lines += _sets(weights, samples_by_group(raw, SOURCE)) if weights in presets() else []
    if mix.holdout:
        shares = [f"{name} {share!r}" for name, share in mix.holdout.items()]
        lines += ["", f"Held out, as shares of the samples: {', '.join(shares)}. No sequence contains these samples."]
    if mix.max_sequences is not None:
        lines += ["", f"At most {mix.max_epochs:g} epochs of any source: {mix.max_sequences:,} sequences."]
    long = sum(int(figures[f"{source.name}/long_documents"]) for source in mix.sources)
    fate = "they are cut" if mix.long_documents == "cut" else "they are dropped"
    lines += ["", f"{long:,} documents are longer than a sequence: {fate}."]
    if mix.snapshot:
        lines += ["", "Shards: " + ", ".join(f"{name} {value}" for name, value in mix.snapshot.items()) + "."]
    return "\n".join(lines) + "\n"


def _sets(preset: str, samples: Mapping[str, int]) -> list[str]:
    """Render the plan of a preset of sets."""
    lines = [
        *("", f"## Sets of {preset}", "", f"{presets()[preset].source}.", ""),
        "| group | set | share in the paper | share here | samples in the paper | samples here |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for each in plan(preset, samples):
        published = "" if each.paper_samples is None else f"{each.paper_samples:,}"
        columns = f"{each.weight:.2%} | {published} | {each.samples:,}" if each.folder else f"| {published} | not ingested"
        lines.append(f"| {each.group} | {each.name} | {each.share:.2%} | {columns} |")
    return lines


def _layout(mix: DataMix) -> str:
    if not mix.image_layout:
        return ""
    tokens, tiles = ImageTiles.of(mix).most()
    return f" (layout {mix.image_layout}: up to {tiles} tiles and {tokens:,} tokens an image; a tile counts as an image)"


def _row(name: str, shares: Sequence[str], figures: dict[str, float], prefix: str, epochs: str) -> str:
    value = {figure: figures[prefix + figure] for figure in ("fill", "tokens_per_sequence", "images_per_sequence")}
    documents, cut = figures[f"{prefix}documents_per_sequence"], figures[f"{prefix}cut_share"]
    return (
        f"| {name} | {' | '.join(shares)} | {value['fill']:.3f} | {value['tokens_per_sequence']:,.1f} "
        f"| {value['images_per_sequence']:.2f} | {documents:.2f} | {cut:.1%} | {epochs} |"
    )
