"""Step data_mix: filtered data -> a frozen, deterministic mixture of packed sequences (DataMix).

    RawData -> shards admitted by the feature store as of a time -> weights -> plan -> measured -> DataMix

Nothing is copied: the manifest fixes shards, weights, seed and limits, and these determine the order. The summary describes
the mixture, measured over its first sequences.
"""

from __future__ import annotations

import logging
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

    from mm1.manifests import DataMix, MixSource, RawData
    from mm1.store.base import Store

log = logging.getLogger(__name__)


class Inputs(BaseModel):
    """Inputs of data_mix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ManifestUri = Field(description="RawData to mix")
    weights: str = Field(
        "mm1",
        description="weights, for example captions=0.45,interleaved=0.45,text=0.10 (only the ratios matter; captions/cc12m is "
        "the subfolder cc12m of the captions); or mm1, mm1_5, sft, mm1_sft, mm1_5_sft (sets of instructions), text, where the "
        "weight of a source that is not ingested goes to the others",
    )
    weights_by: Literal["sequence", "token", "image", "label", "sample"] = Field(
        "sequence",
        description="unit that the weights are shares of; label = tokens with loss; mm1_sft and mm1_5_sft: sample by default",
    )
    synthetic_share: float = Field(
        0.07, description="share of the captions that come from the source synthetic, if the data has it", ge=0, le=1
    )
    sequence_length: int = Field(128, description="length of a packed sequence, in tokens", ge=8)
    max_images: int = Field(24, description="maximum number of images in a packed sequence (MM1: 16 in 4096 tokens)", ge=1)
    image_tokens: int = Field(4, description="tokens per image", ge=1)
    image_size: int = Field(32, description="height and width of the model's input images, in pixels", ge=4)
    image_layout: str = Field(
        "single",
        description="division of images into tiles, each of image_size pixels and image_tokens tokens, which count as images: "
        "single = none; static = an overview and 2 x 2 crops (MM1); dynamic = a grid that fits the image, and an overview "
        "(MM1.5), with options such as dynamic,grid=4-9,marks=index,max_images=2",
    )
    one_source: bool = Field(True, description="false: documents of several sources may share a sequence")
    cross_document_attention: bool = Field(
        False, description="true: tokens attend to earlier documents of their sequence, which shows what isolation is worth"
    )
    long_documents: Literal["cut", "drop"] = Field("cut", description="how documents longer than a sequence are handled")
    max_epochs: float = Field(
        0.0, description="maximum number of epochs over any source; 0 = unlimited", ge=0, allow_inf_nan=False
    )
    holdout: str = Field(
        "",
        description="samples that never enter the mixture, for validation: a share of every source, such as 0.001, or "
        "captions=0.01,text=500 (shares or numbers of samples); empty = none",
    )
    thresholds: str = Field("", description="conditions that shards must meet, for example quality>=0.5 duplicate_rate<=0.2")
    as_of: str = Field("", description="use the shards' features as of this time (ISO 8601); empty = now")
    seed: int = Field(0, description="seed of the sample order", ge=0)


def check_weights(weights: str) -> None:
    """Check that the weights can be parsed and belong to existing sources."""
    from mm1.data.load.mixture import parse_weights
    from mm1.data.source_names import parent_of

    check_names("weights", map(parent_of, parse_weights(weights)))


def check_holdout(holdout: str) -> None:
    """Check that the held-out samples can be parsed and belong to existing sources."""
    from mm1.data.load.holdout import ALL, parse_holdout
    from mm1.data.source_names import parent_of

    check_names("holdout", (parent_of(name) for name in parse_holdout(holdout) if name != ALL))


def check_sources(weights: str, data: Producer) -> None:
    """Check that each source with a weight is ingested."""
    from mm1.data.load.mixture import parse_weights, weights_of
    from mm1.data.source_names import parent_of

    if data.step != "ingest" or not data.known("data", *SOURCES) or data.inputs["data"]:
        return
    if all(parent_of(name) in SOURCES for name in parse_weights(weights)):
        weights_of(weights, [name for name in SOURCES if data.inputs[name]])


def check_holdout_sources(holdout: str, data: Producer) -> None:
    """Check that each source with held-out samples is ingested."""
    from mm1.data.load.holdout import ALL, parse_holdout
    from mm1.data.source_names import parent_of

    if data.step != "ingest" or not data.known("data", *SOURCES) or data.inputs["data"]:
        return
    given = [name for name in SOURCES if data.inputs[name]]
    names = [parent_of(name) for name in parse_holdout(holdout) if name != ALL]
    if missing := [name for name in names if name in SOURCES and name not in given]:
        raise ConfigurationError(f"holdout: {missing[0]!r} is not ingested; ingested sources: {', '.join(given) or 'none'}")


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


def check_sizes(sequence_length: int, max_images: int, image_tokens: int, image_layout: str) -> None:
    """Check that an image with its tiles and a word fit into a sequence."""
    from mm1.data.load.image_tiles import ImageTiles, layout_of
    from mm1.data.load.packing import PackingLimits

    PackingLimits(sequence_length=sequence_length, max_images=max_images, image_tokens=image_tokens).check()
    ImageTiles(layout_of(image_layout), 1, image_tokens).check(sequence_length, max_images)


class Outputs(BaseModel):
    """Outputs of data_mix."""

    manifest: ManifestUri = Field(description="DataMix")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Freeze a mixture and measure its first sequences."""
    from mm1.data.features.new_data import LastMix, record_mix
    from mm1.data.features.snapshot import parse_time
    from mm1.data.load.freeze import hold_out, mixed_sources, notes_on, with_layout, with_shares
    from mm1.data.load.image_tiles import ImageTiles
    from mm1.data.load.mix_summary import summary
    from mm1.data.load.mixture import check_period
    from mm1.data.load.open_mix import limits_of, make_plan, open_indexes
    from mm1.data.load.statistics import few_labels, measure, num_long_documents, sequence_shares, sequences_until
    from mm1.manifests import RawData, manifest_key, split_uri

    raw = context.load(inputs.data, RawData)
    store_uri, digest = split_uri(inputs.data)
    if not context.store.exists(manifest_key(digest)):
        raise ConfigurationError(
            f"data: the manifest is in {store_uri}, and a mixture must be in the store of its data: set --store {store_uri}"
        )
    as_of = parse_time(inputs.as_of)
    weights, notes = _weights(raw, inputs)
    selected = _selected(raw, list(weights), inputs, as_of, context.store)
    mix = _unmeasured(inputs, raw, digest, mixed_sources(context.store, raw, weights, selected))
    mix = with_layout(mix, inputs.image_layout, context.store)
    limits_of(mix).check()
    ImageTiles.of(mix).check(mix.sequence_length, mix.max_images)
    indexes = {number: open_indexes(context.store, raw, source) for number, source in enumerate(mix.sources)}
    if inputs.holdout:
        mix = hold_out(context.store, mix, raw, indexes, inputs.holdout)
    if mix.weights_by != "sequence":
        mix = with_shares(mix, sequence_shares(mix, indexes))
    check_period({source.name: source.share for source in mix.sources})
    figures = measure(make_plan(mix, indexes), mix).figures() | num_long_documents(mix, indexes)
    mix = mix.model_copy(update={"packing": figures})
    if mix.max_epochs:
        mix = mix.model_copy(update={"max_sequences": sequences_until(mix, mix.max_epochs)})
    notes += [*notes_on(mix, raw, inputs.holdout), *few_labels(mix)]
    for note in notes:
        log.info("%s", note)
    num_shards = [len(indexes[number]) for number in indexes]
    context.artifact("summary.md").write_text(summary(mix, raw, num_shards, notes, inputs.weights.strip()))
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
        weights_by=_unit(inputs),
        one_source=inputs.one_source,
        cross_document_attention=inputs.cross_document_attention,
        long_documents=inputs.long_documents,
        max_epochs=inputs.max_epochs,
        snapshot={name: value for name in ("as_of", "thresholds") if (value := getattr(inputs, name))},
        packing={},
        tokenizer=raw.tokenizer,
    )


def _unit(inputs: Inputs) -> Literal["sequence", "token", "image", "label", "sample"]:
    """Return the unit of the weights; those of sets of instructions are shares of samples, unless another unit is given."""
    from mm1.data.load.sets import presets

    return "sample" if inputs.weights_by == "sequence" and inputs.weights.strip() in presets() else inputs.weights_by


def _weights(raw: RawData, inputs: Inputs) -> tuple[dict[str, float], list[str]]:
    """Return the positive weights, and notes on weights that went to other sources."""
    from mm1.data.load.mixture import INSTRUCTIONS, SYNTHETIC, weights_of, with_synthetic
    from mm1.data.load.sets import presets, set_weights
    from mm1.data.source_names import check_names_in, samples_by_group

    shares, notes = weights_of(inputs.weights, list(raw.sources))
    if inputs.weights.strip() in presets():
        shares, notes = set_weights(inputs.weights.strip(), samples_by_group(raw, INSTRUCTIONS))
    if SYNTHETIC in raw.sources:
        shares = with_synthetic(shares, inputs.synthetic_share)
    shares = {name: weight for name, weight in shares.items() if weight}
    check_names_in(raw, "weights", shares)
    return shares, notes


def _selected(raw: RawData, names: list[str], inputs: Inputs, as_of: datetime, store: Store) -> dict[str, list[str]]:
    """Return the shards that the feature store selects, by source; empty without thresholds and time, for all shards."""
    from mm1.data.features.snapshot import choose_shards, parse_thresholds

    if not inputs.thresholds and not inputs.as_of:
        return {}
    return choose_shards(store, raw, names, parse_thresholds(inputs.thresholds), as_of)


def _feature_state(inputs: Inputs, store: Store) -> str:
    """Return the state of the feature store, if the choice of shards depends on its rows."""
    from mm1.data.features.rows import fingerprint_of

    return fingerprint_of(store) if inputs.thresholds or inputs.as_of else ""


STEP = Step(
    name="data_mix",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="DataMix",
    summary="Freeze a mixture of sources (weights, order, packing limits) and measure its fill and epochs.",
    artifacts=("summary.md",),
    state=_feature_state,
    checks=(
        check_weights,
        check_sources,
        check_holdout,
        check_holdout_sources,
        check_store,
        check_store_of_given_data,
        check_snapshot,
        check_sizes,
    ),
)

if __name__ == "__main__":
    main(STEP)
