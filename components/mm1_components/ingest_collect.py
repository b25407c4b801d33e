"""Step ingest_collect: combine the sharded parts into the ingested data.

IngestPlan, MergedParts, ShardedParts of all batches -> RawData; rows for the feature store; the summary
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import manifests_of


class Inputs(BaseModel):
    """Inputs of ingest_collect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: ManifestUri = Field(description="IngestPlan")
    merged: ManifestUri = Field(description="MergedParts of all parts")
    batches: str = Field(description="addresses of the ShardedParts of all batches: a JSON list, or separated by spaces")


class Outputs(BaseModel):
    """Outputs of ingest_collect."""

    manifest: ManifestUri = Field(description="RawData")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Combine the parts."""
    from mm1.data.prepare.merge import collect
    from mm1.manifests import FilteredParts, IngestPlan, MergedParts, ShardedParts, load_digest, split_uri
    from mm1.store.open import open_store
    from mm1_components.parts.plan import in_order
    from mm1_components.parts.summary import publish_data

    merged = context.load(inputs.merged, MergedParts)
    store = open_store(split_uri(inputs.merged)[0])
    batches = [load_digest(store, digest) for digest in merged.parents]
    filtered = sorted((p for batch in batches if isinstance(batch, FilteredParts) for p in batch.parts), key=in_order)
    sharded = [part for batch in manifests_of(context, inputs.batches, ShardedParts, "batches") for part in batch.parts]
    planned = context.load(inputs.plan, IngestPlan).sources
    return Outputs(manifest=publish_data(collect(planned, merged, filtered, sharded), context))


STEP = Step(
    name="ingest_collect",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="RawData",
    summary="Combine the sharded parts into the ingested data.",
    artifacts=("summary.md",),
)

if __name__ == "__main__":
    main(STEP)
