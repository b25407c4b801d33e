"""Step ingest_shard: the second mapper of ingest, for one part.

MergedParts, FilteredPart -> without what is double -> shards with index and features -> ShardedPart
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Inputs of ingest_shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merged: ManifestUri = Field(description="MergedParts of all parts")
    part: ManifestUri = Field(description="RawPart to make the shards of")


class Outputs(BaseModel):
    """Outputs of ingest_shard."""

    manifest: ManifestUri = Field(description="ShardedPart")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Shard one part.

    Raises:
        ConfigurationError: the part is none of those that were merged.
    """
    from mm1.data.prepare.pipeline import shard_part
    from mm1.manifests import FilteredPart, MergedParts, load_digest, split_uri
    from mm1.store.open import open_store

    merged = context.load(inputs.merged, MergedParts)
    store_uri, digest = split_uri(inputs.part)
    if digest not in merged.parts:
        raise ConfigurationError(f"part: {digest[:12]} is none of the {len(merged.parts)} parts that were merged")
    part = load_digest(open_store(store_uri), merged.parts[digest])
    assert isinstance(part, FilteredPart), "what the merge names"
    return Outputs(manifest=context.publish(shard_part(context.store, merged, part, context.work)))


STEP = Step(
    name="ingest_shard",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Write the shards of one part, without duplicates.",
)

if __name__ == "__main__":
    main(STEP)
