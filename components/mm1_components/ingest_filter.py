"""Step ingest_filter: read and filter one batch of parts; the first mapper of ingest.

IngestPlan, batch -> read and filter sample by sample -> tars and signatures of each part -> FilteredParts
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    AUTO,
    TRAIN,
    BatchField,
    PresetField,
    SourceLocations,
    TokenizerField,
    check_columns,
    check_preset,
    check_tokenizer,
    given_tokenizer,
    tokenizer_state,
)


class Inputs(SourceLocations):
    """Inputs of ingest_filter."""

    plan: ManifestUri = Field(description="IngestPlan")
    batch: BatchField
    tokenizer: TokenizerField = TRAIN
    preset: PresetField = AUTO


class Outputs(BaseModel):
    """Outputs of ingest_filter."""

    manifest: ManifestUri = Field(description="FilteredParts")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Filter the parts of a batch, a process per core; finished parts are not repeated after an interruption."""
    from mm1.manifests import FilteredParts, IngestPlan, split_uri
    from mm1_components.parts.plan import log_presets
    from mm1_components.parts.pool import Pool
    from mm1_components.parts.progress import Progress
    from mm1_components.parts.work import Work, filter_one

    parts = context.load(inputs.plan, IngestPlan).batch(inputs.batch)
    folder, _ = given_tokenizer(inputs.tokenizer, context)
    log_presets(inputs.preset, inputs)
    work = Work(inputs, inputs.preset, context.store.uri, context.code, context.work, folder, context.use_cache)
    num_bytes = sum(file.num_bytes for part in parts for file in part.files)
    with Pool() as pool, Progress(context, num_bytes, len(parts)) as progress:
        filtered = pool.map(filter_one, [(work, part) for part in parts], progress.advance)
    batch = FilteredParts(parents=(split_uri(inputs.plan)[1],), batch=inputs.batch, parts=tuple(filtered))
    return Outputs(manifest=context.publish(batch))


STEP = Step(
    name="ingest_filter",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="FilteredParts",
    summary="Read and filter one batch of the raw data.",
    state=tokenizer_state,
    checks=(check_preset, check_tokenizer, check_columns),
)

if __name__ == "__main__":
    main(STEP)
