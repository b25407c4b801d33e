"""Step data_mix: filtered data -> a frozen, deterministic mixture of packed sequences (DataMix).

Nothing is copied: the manifest fixes weights, seed and limits, and the order follows from them. The summary says what the
mixture looks like, measured over its first sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.arguments import ManifestUri
from mm1_components.step import Context, Step, main

if TYPE_CHECKING:
    from mm1.data.statistics import MixStatistics
    from mm1.manifests import DataMix, MixSource, RawData

MEASURED_SEQUENCES = 2_000
"""Sequences that the figures are measured over."""
SHOWN_SEQUENCES = 10_000
"""Sequences that the summary gives epochs for."""


class Inputs(BaseModel):
    """Inputs of data_mix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ManifestUri = Field(description="RawData to mix")
    weights: str = Field(
        "captions=0.45,interleaved=0.45,text=0.10", description="share of sequences of each source; only the ratios matter"
    )
    sequence_length: int = Field(128, description="tokens of a packed sequence", ge=8)
    max_images: int = Field(24, description="images of a packed sequence at most (MM1: 16 in 4096 tokens)", ge=1)
    image_tokens: int = Field(4, description="tokens that stand for one image", ge=1)
    image_size: int = Field(32, description="side of the square images that the model gets, in pixels", ge=4)
    seed: int = Field(0, description="seed of the order of samples", ge=0)


class Outputs(BaseModel):
    """Outputs of data_mix."""

    manifest: ManifestUri = Field(description="DataMix")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Freeze a mixture and measure its first sequences."""
    from mm1.data.open import make_plan, open_shards, shards_of
    from mm1.data.packing import PackingLimits
    from mm1.data.statistics import measure
    from mm1.manifests import DataMix, RawData, manifest_key, split_uri

    raw = context.load(inputs.data, RawData)
    store_uri, digest = split_uri(inputs.data)
    if not context.store.exists(manifest_key(digest)):
        raise ConfigurationError(
            f"data: it lies in {store_uri}, and a mixture stays where its data are: give --store {store_uri}"
        )
    limits = PackingLimits(
        sequence_length=inputs.sequence_length, max_images=inputs.max_images, image_tokens=inputs.image_tokens
    ).check()
    sources = _sources(raw, inputs.weights)
    readers = {
        number: open_shards(context.store, shards_of(context.store, raw, source)) for number, source in enumerate(sources)
    }
    plan = make_plan(sources, readers, limits, inputs.seed)
    statistics = measure(plan, sources, limits, MEASURED_SEQUENCES)
    mix = DataMix(
        parents=(digest,),
        raw=digest,
        sources=sources,
        order_seed=inputs.seed,
        sequence_length=inputs.sequence_length,
        max_images=inputs.max_images,
        image_tokens=inputs.image_tokens,
        image_size_px=inputs.image_size,
        packing=statistics.figures(),
        tokenizer=raw.tokenizer,
    )
    context.artifact("summary.md").write_text(_summary(mix, statistics))
    return Outputs(manifest=context.publish(mix))


def _sources(raw: RawData, weights: str) -> tuple[MixSource, ...]:
    from mm1.data.mixture import parse_weights
    from mm1.manifests import MixSource

    shares = {name: weight for name, weight in parse_weights(weights).items() if weight}
    missing = [name for name in shares if name not in raw.sources]
    if missing:
        raise ConfigurationError(
            f"weights: {missing[0]!r} has a share, but these data have {', '.join(raw.sources)}; give --weights for those"
        )
    total = sum(shares.values())
    return tuple(
        MixSource(
            name=name,
            weight=round(weight / total, 9),
            num_samples=raw.sources[name].num_samples,
            num_images=raw.sources[name].num_images,
            num_text_tokens=raw.sources[name].num_text_tokens,
        )
        for name, weight in shares.items()
    )


def _summary(mix: DataMix, statistics: MixStatistics) -> str:
    figures = statistics.figures()
    lines = [
        "# Mixture",
        "",
        f"Sequences of {mix.sequence_length:,} tokens with at most {mix.max_images} images of {mix.image_tokens} tokens, "
        f"{mix.image_size_px} px a side. Order seed {mix.order_seed}.",
        f"Measured over the first {statistics.total.sequences:,} sequences.",
        "",
        f"| source | weight | fill | tokens | images | documents | cut | epochs in {SHOWN_SEQUENCES:,} sequences |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for source in mix.sources:
        per_sequence = figures[f"{source.name}/documents_per_sequence"]
        epochs = source.weight * SHOWN_SEQUENCES * per_sequence / source.num_samples
        lines.append(_row(source.name, f"{source.weight:.3f}", figures, f"{source.name}/", f"{epochs:.2f}"))
    lines.append(_row("all", "1.000", figures, "", ""))
    lines += [
        "",
        "Tokens, images, documents: means per sequence. Cut: share of pieces of documents longer than a sequence.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, weight: str, figures: dict[str, float], prefix: str, epochs: str) -> str:
    value = {figure: figures[prefix + figure] for figure in ("fill", "tokens_per_sequence", "images_per_sequence")}
    documents, cut = figures[f"{prefix}documents_per_sequence"], figures[f"{prefix}cut_share"]
    return (
        f"| {name} | {weight} | {value['fill']:.3f} | {value['tokens_per_sequence']:,.1f} | {value['images_per_sequence']:.2f} "
        f"| {documents:.2f} | {cut:.1%} | {epochs} |"
    )


STEP = Step(
    name="data_mix",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Freeze a mixture of sources: weights, order, packing limits; measures fill and epochs.",
    artifacts=("summary.md",),
)

if __name__ == "__main__":
    main(STEP)
