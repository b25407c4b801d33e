"""Step ingest_shard: write the shards of one batch of parts; the second mapper of ingest.

MergedParts, batch -> drop duplicates -> shards of each part, with index and features -> ShardedParts
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import BatchField, SourceOptions


class Inputs(BaseModel):
    """Inputs of ingest_shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merged: ManifestUri = Field(description="MergedParts of all parts")
    batch: BatchField


class Outputs(BaseModel):
    """Outputs of ingest_shard."""

    manifest: ManifestUri = Field(description="ShardedParts")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Shard the parts of a batch, a process per core.

    Raises:
        ConfigurationError: the batch was not merged.
    """
    from mm1.manifests import FilteredParts, MergedParts, ShardedParts, load_digest, split_uri
    from mm1.store.open import open_store
    from mm1_components.parts.pool import Pool
    from mm1_components.parts.progress import Progress
    from mm1_components.parts.work import Work, shard_one

    merged = context.load(inputs.merged, MergedParts)
    store_uri, digest = split_uri(inputs.merged)
    if inputs.batch >= len(merged.parents):
        raise ConfigurationError(f"batch: expected a number below {len(merged.parents)}, got {inputs.batch}")
    batch = load_digest(open_store(store_uri), merged.parents[inputs.batch])
    assert isinstance(batch, FilteredParts), "a merge has batches of filtered parts as parents"
    work = Work(SourceOptions(), "", context.store.uri, context.code, context.work, None, context.use_cache)
    with Pool() as pool, Progress(context, 0, len(batch.parts)) as progress:
        sharded = pool.map(shard_one, [(work, merged, part) for part in batch.parts], progress.advance)
    parents = (digest, merged.parents[inputs.batch])
    return Outputs(manifest=context.publish(ShardedParts(parents=parents, batch=inputs.batch, parts=tuple(sharded))))


STEP = Step(
    name="ingest_shard",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="ShardedParts",
    summary="Write the shards of one batch of parts, without duplicates.",
)

if __name__ == "__main__":
    main(STEP)
