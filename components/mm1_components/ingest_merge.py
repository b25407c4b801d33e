"""Step ingest_merge: find duplicates across all parts and train the tokenizer.

FilteredPart, FilteredPart, ... -> joins over signatures; texts -> BPE -> MergedParts
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    TRAIN,
    TokenizerField,
    VocabularyField,
    check_tokenizer,
    given_tokenizer,
    manifests_of,
)

log = logging.getLogger(__name__)


class Inputs(BaseModel):
    """Inputs of ingest_merge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: str = Field(description="addresses of all FilteredParts: a JSON list, or separated by spaces")
    tokenizer: TokenizerField = TRAIN
    vocabulary: VocabularyField = 1024


class Outputs(BaseModel):
    """Outputs of ingest_merge."""

    manifest: ManifestUri = Field(description="MergedParts")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Join the signatures of all parts and choose the tokenizer."""
    from mm1.data.prepare.pipeline import check_sources, merge_parts, training_texts
    from mm1.data.tokenizer import train_bpe
    from mm1.manifests import FilteredPart

    parts = manifests_of(context, inputs.parts, FilteredPart, "parts")
    folder, origin = given_tokenizer(inputs.tokenizer, context)
    check_sources(parts)
    if folder is None:
        log.info("training a tokenizer of %d tokens", inputs.vocabulary)
        folder = train_bpe(training_texts(context.store, parts), context.work / "tokenizer", inputs.vocabulary)
    return Outputs(manifest=context.publish(merge_parts(context.store, parts, folder, origin, context.work)))


STEP = Step(
    name="ingest_merge",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Find duplicates across all filtered parts; train a tokenizer if none is given.",
    checks=(check_tokenizer,),
)

if __name__ == "__main__":
    main(STEP)
