"""Step ingest_merge: find duplicates across all parts and train the tokenizer.

FilteredParts of all batches -> joins over signatures; texts -> BPE -> MergedParts
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field

from mm1.data.config import MAX_DAMAGED_SHARE
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    TRAIN,
    DamagedShareField,
    TokenizerField,
    VocabularyField,
    check_tokenizer,
    given_tokenizer,
    manifests_of,
    tokenizer_state,
)

log = logging.getLogger(__name__)


class Inputs(BaseModel):
    """Inputs of ingest_merge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batches: str = Field(description="addresses of the FilteredParts of all batches: a JSON list, or separated by spaces")
    tokenizer: TokenizerField = TRAIN
    vocabulary: VocabularyField = 1024
    max_damaged_share: DamagedShareField = MAX_DAMAGED_SHARE


class Outputs(BaseModel):
    """Outputs of ingest_merge."""

    manifest: ManifestUri = Field(description="MergedParts")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Join the signatures of all parts and choose the tokenizer."""
    from mm1.data.prepare.merge import check_sources, merge_parts, training_texts
    from mm1.data.tokenizer import train_bpe
    from mm1.manifests import FilteredParts, digest_of_manifest
    from mm1_components.parts.plan import in_order

    batches = sorted(manifests_of(context, inputs.batches, FilteredParts, "batches"), key=lambda batch: batch.batch)
    parts = sorted((part for batch in batches for part in batch.parts), key=in_order)
    folder, origin = given_tokenizer(inputs.tokenizer, context)
    check_sources(parts, inputs.max_damaged_share)
    if folder is None:
        log.info("training a tokenizer of %d tokens", inputs.vocabulary)
        folder = train_bpe(training_texts(context.store, parts), context.work / "tokenizer", inputs.vocabulary)
    parents = [digest_of_manifest(batch) for batch in batches]
    return Outputs(manifest=context.publish(merge_parts(context.store, parts, folder, origin, context.work, parents)))


STEP = Step(
    name="ingest_merge",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="MergedParts",
    summary="Find duplicates across all filtered parts; train a tokenizer if none is given.",
    state=tokenizer_state,
    checks=(check_tokenizer,),
)

if __name__ == "__main__":
    main(STEP)
