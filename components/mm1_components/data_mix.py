"""Step data_mix: filtered data -> a frozen, deterministic mixture of packed sequences (DataMix).

    RawData -> shards admitted by the feature store as of a time -> weights -> plan -> measured -> DataMix

Nothing is copied: the manifest fixes shards, weights, seed and limits, and these determine the order. The summary describes
the mixture, measured over its first sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import SOURCES, check_names

if TYPE_CHECKING:
    from datetime import datetime

    from mm1.data.reader import ShardIndex
    from mm1.manifests import DataMix, MixSource, RawData
    from mm1.store.base import Store

SHOWN_SEQUENCES = 10_000
"""Number of sequences for which the summary reports epochs."""


class Inputs(BaseModel):
    """Inputs of data_mix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ManifestUri = Field(description="RawData to mix")
    weights: str = Field(
        "mm1",
        description="weights, for example captions=0.45,interleaved=0.45,text=0.10 (only the ratios matter), or mm1, mm1.5",
    )
    weights_by: Literal["sequence", "token"] = Field("sequence", description="unit that the weights are shares of")
    synthetic_share: float = Field(
        0.07, description="share of the captions that come from the source synthetic, if the data has it", ge=0, le=1
    )
    sequence_length: int = Field(128, description="length of a packed sequence, in tokens", ge=8)
    max_images: int = Field(24, description="maximum number of images in a packed sequence (MM1: 16 in 4096 tokens)", ge=1)
    image_tokens: int = Field(4, description="tokens per image", ge=1)
    image_size: int = Field(32, description="height and width of the model's input images, in pixels", ge=4)
    one_source: bool = Field(True, description="false: documents of several sources may share a sequence")
    long_documents: Literal["cut", "drop"] = Field("cut", description="how documents longer than a sequence are handled")
    max_epochs: float = Field(
        0.0, description="maximum number of epochs over any source; 0 = unlimited", ge=0, allow_inf_nan=False
    )
    thresholds: str = Field("", description="conditions that shards must meet, for example quality>=0.5 duplicate_rate<=0.2")
    as_of: str = Field("", description="use the shards' features as of this time (ISO 8601); empty = now")
    seed: int = Field(0, description="seed of the sample order", ge=0)


def check_weights(weights: str) -> None:
    """Check that the weights can be parsed and belong to existing sources."""
    from mm1.data.load.mixture import parse_weights

    check_names("weights", parse_weights(weights))


def check_sources(weights: str, data: Producer) -> None:
    """Check that each source with a weight is ingested."""
    from mm1.data.load.mixture import parse_weights

    if data.step != "ingest" or not data.known("data", *SOURCES) or data.inputs["data"]:
        return
    given = [name for name in SOURCES if data.inputs[name]]
    missing = [name for name, weight in parse_weights(weights).items() if weight and name in SOURCES and name not in given]
    if missing:
        raise ConfigurationError(
            f"weights: {missing[0]!r} has a weight but is not ingested; ingested sources: {', '.join(given) or 'none'}; "
            f"give {missing[0]}=, or weights of the ingested sources only"
        )


def check_store(data: str, store: str) -> None:
    """Check that the data is in the store of the run: a mixture is stored next to its data."""
    from mm1.manifests import split_uri
    from mm1.store.address import same_store

    address = split_uri(data)[0]
    if not same_store(address, store):
        raise ConfigurationError(
            f"data: the manifest is in {address}, but the run uses {store}, and a mixture must be in the store of its data: "
            f"set --store {address} (with mm1 submit: -p store={address})"
        )


def check_store_of_given_data(data: Producer, store: str) -> None:
    """Check the store of data that ingest gets from an earlier run and passes on."""
    if data.step == "ingest" and data.known("data") and data.inputs["data"]:
        check_store(data.inputs["data"], store)


def check_snapshot(thresholds: str, as_of: str) -> None:
    """Check that the thresholds and the time can be parsed."""
    from mm1.data.features.snapshot import parse_thresholds, parse_time

    parse_thresholds(thresholds)
    parse_time(as_of)


def check_sizes(sequence_length: int, max_images: int, image_tokens: int) -> None:
    """Check that an image and a word fit into a sequence."""
    from mm1.data.load.packing import PackingLimits

    PackingLimits(sequence_length=sequence_length, max_images=max_images, image_tokens=image_tokens).check()


class Outputs(BaseModel):
    """Outputs of data_mix."""

    manifest: ManifestUri = Field(description="DataMix")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Freeze a mixture and measure its first sequences."""
    from mm1.data.features.new_data import LastMix, record_mix
    from mm1.data.features.snapshot import parse_time
    from mm1.data.load.open_mix import limits_of, make_plan, open_indexes
    from mm1.data.load.statistics import measure, num_long_documents, sequence_shares, sequences_until
    from mm1.manifests import RawData, manifest_key, split_uri

    raw = context.load(inputs.data, RawData)
    store_uri, digest = split_uri(inputs.data)
    if not context.store.exists(manifest_key(digest)):
        raise ConfigurationError(
            f"data: the manifest is in {store_uri}, and a mixture must be in the store of its data: set --store {store_uri}"
        )
    as_of = parse_time(inputs.as_of)
    mix = _unmeasured(inputs, raw, digest, _sources(raw, inputs, as_of, context.store))
    limits_of(mix).check()
    indexes = {number: open_indexes(context.store, raw, source) for number, source in enumerate(mix.sources)}
    if mix.weights_by == "token":
        mix = _with_shares(mix, sequence_shares(mix, indexes))
    figures = measure(make_plan(mix, indexes), mix).figures() | num_long_documents(mix, indexes)
    mix = mix.model_copy(update={"packing": figures})
    if mix.max_epochs:
        mix = mix.model_copy(update={"max_sequences": sequences_until(mix, mix.max_epochs)})
    context.artifact("summary.md").write_text(_summary(mix, raw, indexes))
    uri = context.publish(mix)
    record_mix(context.store, [source.name for source in mix.sources], LastMix(split_uri(uri)[1], as_of))
    return Outputs(manifest=uri)


def _unmeasured(inputs: Inputs, raw: RawData, digest: str, sources: tuple[MixSource, ...]) -> DataMix:
    from mm1.manifests import DataMix

    return DataMix(
        parents=(digest,),
        raw=digest,
        sources=sources,
        order_seed=inputs.seed,
        sequence_length=inputs.sequence_length,
        max_images=inputs.max_images,
        image_tokens=inputs.image_tokens,
        image_size_px=inputs.image_size,
        weights_by=inputs.weights_by,
        one_source=inputs.one_source,
        long_documents=inputs.long_documents,
        max_epochs=inputs.max_epochs,
        snapshot={name: value for name in ("as_of", "thresholds") if (value := getattr(inputs, name))},
        packing={},
        tokenizer=raw.tokenizer,
    )


def _sources(raw: RawData, inputs: Inputs, as_of: datetime, store: Store) -> tuple[MixSource, ...]:
    from mm1.data.load.mixture import SYNTHETIC, parse_weights, with_synthetic

    shares = parse_weights(inputs.weights)
    if SYNTHETIC in raw.sources:
        shares = with_synthetic(shares, inputs.synthetic_share)
    shares = {name: weight for name, weight in shares.items() if weight}
    missing = [name for name in shares if name not in raw.sources]
    if missing:
        raise ConfigurationError(
            f"weights: {missing[0]!r} has a weight, but the data only has {', '.join(raw.sources)}; set --weights for those"
        )
    total = sum(shares.values())
    chosen = _chosen(raw, list(shares), inputs, as_of, store)
    return tuple(_source(raw, name, weight / total, chosen.get(name), store) for name, weight in shares.items())


def _chosen(raw: RawData, names: list[str], inputs: Inputs, as_of: datetime, store: Store) -> dict[str, list[str]]:
    """Return the shards that the feature store selects, by source; empty without thresholds and time, for all shards."""
    from mm1.data.features.snapshot import choose_shards, parse_thresholds

    if not inputs.thresholds and not inputs.as_of:
        return {}
    return choose_shards(store, raw, names, parse_thresholds(inputs.thresholds), as_of)


def _source(raw: RawData, name: str, weight: float, chosen: list[str] | None, store: Store) -> MixSource:
    from mm1.manifests import MixSource

    shards = list(raw.sources[name].shards)
    kept = shards if chosen is None else [shard for shard in shards if shard.tar.sha256 in set(chosen)]
    return MixSource(
        name=name,
        weight=round(weight, 9),
        shards=None if len(kept) == len(shards) else store.put_bytes("\n".join(shard.tar.sha256 for shard in kept).encode()),
        num_samples=sum(shard.num_samples for shard in kept),
        num_images=sum(shard.num_images for shard in kept),
        num_text_tokens=sum(shard.num_text_tokens for shard in kept),
    )


def _with_shares(mix: DataMix, shares: dict[int, float]) -> DataMix:
    sources = [source.model_copy(update={"sequence_share": shares[number]}) for number, source in enumerate(mix.sources)]
    return mix.model_copy(update={"sources": tuple(sources)})


def _feature_state(inputs: Inputs, store: Store) -> str:
    """Return the state of the feature store, if the choice of shards depends on its rows."""
    from mm1.data.features.rows import fingerprint_of

    return fingerprint_of(store) if inputs.thresholds or inputs.as_of else ""


def _summary(mix: DataMix, raw: RawData, indexes: dict[int, list[ShardIndex]]) -> str:
    from mm1.data.load.statistics import epochs_of

    figures, epochs = mix.packing, epochs_of(mix, SHOWN_SEQUENCES)
    lines = [
        "# Mixture",
        "",
        f"Sequences of {mix.sequence_length:,} tokens with at most {mix.max_images} images of {mix.image_tokens} tokens, "
        f"{mix.image_size_px} px a side; {'one source each' if mix.one_source else 'sources share sequences'}. "
        f"Order seed {mix.order_seed}. Weights are shares of {mix.weights_by}s.",
        f"Measured over the first {int(figures['sequences']):,} sequences.",
        "",
        "| source | weight | sequences | tokens | shards | fill | tokens | images | documents | cut "
        f"| epochs in {SHOWN_SEQUENCES:,} sequences |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for number, source in enumerate(mix.sources):
        shards = f"{len(indexes[number])} of {len(raw.sources[source.name].shards)}"
        shares = f"{source.weight:.3f} | {source.share:.3f} | {figures[f'{source.name}/token_share']:.3f} | {shards}"
        lines.append(_row(source.name, shares, figures, f"{source.name}/", f"{epochs[source.name]:.2f}"))
    lines.append(_row("all", "1.000 | 1.000 | 1.000 |", figures, "", ""))
    lines += ["", "Shares of sequences and of all tokens, then means per sequence. Cut: share of pieces of longer documents."]
    if mix.max_sequences is not None:
        lines += ["", f"At most {mix.max_epochs:g} epochs of any source: {mix.max_sequences:,} sequences."]
    long = sum(int(figures[f"{source.name}/long_documents"]) for source in mix.sources)
    fate = "they are cut" if mix.long_documents == "cut" else "they are dropped"
    lines += ["", f"{long:,} documents are longer than a sequence: {fate}."]
    if mix.snapshot:
        lines += ["", "Shards: " + ", ".join(f"{name} {value}" for name, value in mix.snapshot.items()) + "."]
    return "\n".join(lines) + "\n"


def _row(name: str, shares: str, figures: dict[str, float], prefix: str, epochs: str) -> str:
    value = {figure: figures[prefix + figure] for figure in ("fill", "tokens_per_sequence", "images_per_sequence")}
    documents, cut = figures[f"{prefix}documents_per_sequence"], figures[f"{prefix}cut_share"]
    return (
        f"| {name} | {shares} | {value['fill']:.3f} | {value['tokens_per_sequence']:,.1f} | {value['images_per_sequence']:.2f} "
        f"| {documents:.2f} | {cut:.1%} | {epochs} |"
    )


STEP = Step(
    name="data_mix",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Freeze a mixture of sources (weights, order, packing limits) and measure its fill and epochs.",
    artifacts=("summary.md",),
    state=_feature_state,
    checks=(check_weights, check_sources, check_store, check_store_of_given_data, check_snapshot, check_sizes),
)

if __name__ == "__main__":
    main(STEP)
