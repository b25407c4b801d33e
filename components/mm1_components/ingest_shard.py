"""Step ingest_shard: write the shards of one part; the second mapper of ingest.

MergedParts, FilteredPart -> drop duplicates -> shards with index and features -> ShardedPart
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
    part: ManifestUri = Field(description="RawPart to shard")


class Outputs(BaseModel):
    """Outputs of ingest_shard."""

    manifest: ManifestUri = Field(description="ShardedPart")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Shard one part.

    Raises:
        ConfigurationError: the part was not merged.
    """
    from mm1.data.prepare.pipeline import shard_part
    from mm1.manifests import FilteredPart, MergedParts, load_digest, split_uri
    from mm1.store.open import open_store

    merged = context.load(inputs.merged, MergedParts)
    store_uri, digest = split_uri(inputs.part)
    if digest not in merged.parts:
        raise ConfigurationError(f"part: {digest[:12]} is not among the {len(merged.parts)} merged parts")
    part = load_digest(open_store(store_uri), merged.parts[digest])
    assert isinstance(part, FilteredPart), "a merge lists filtered parts"
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
