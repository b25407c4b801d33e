"""Step ingest_collect: combine the sharded parts into the ingested data.

MergedParts, ShardedPart, ShardedPart, ... -> RawData; rows for the feature store; the summary
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import manifests_of, publish_data


class Inputs(BaseModel):
    """Inputs of ingest_collect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merged: ManifestUri = Field(description="MergedParts of all parts")
    parts: str = Field(description="addresses of all ShardedParts: a JSON list, or separated by spaces")


class Outputs(BaseModel):
    """Outputs of ingest_collect."""

    manifest: ManifestUri = Field(description="RawData")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Combine the parts."""
    from mm1.data.prepare.pipeline import collect
    from mm1.manifests import FilteredPart, MergedParts, ShardedPart, load_digest, split_uri
    from mm1.store.open import open_store

    merged = context.load(inputs.merged, MergedParts)
    store = open_store(split_uri(inputs.merged)[0])
    parents = [load_digest(store, digest) for digest in merged.parents]
    filtered = [part for part in parents if isinstance(part, FilteredPart)]
    sharded = manifests_of(context, inputs.parts, ShardedPart, "parts")
    return Outputs(manifest=publish_data(collect(merged, filtered, sharded), context))


STEP = Step(
    name="ingest_collect",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Combine the sharded parts into the ingested data.",
    artifacts=("summary.md",),
)

if __name__ == "__main__":
    main(STEP)
