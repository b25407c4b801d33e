"""Step ingest_filter: read and filter one part; the first mapper of ingest.

RawPart -> read and filter sample by sample -> tars and signatures -> FilteredPart
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    AUTO,
    TRAIN,
    PresetField,
    RemoteField,
    SourceLocations,
    TokenizerField,
    check_preset,
    check_tokenizer,
    filtering,
    given_tokenizer,
    preset_of,
    root_of,
)

log = logging.getLogger(__name__)


class Inputs(SourceLocations):
    """Inputs of ingest_filter."""

    part: ManifestUri = Field(description="RawPart to read")
    tokenizer: TokenizerField = TRAIN
    preset: PresetField = AUTO
    remote: RemoteField = "refuse"


class Outputs(BaseModel):
    """Outputs of ingest_filter."""

    manifest: ManifestUri = Field(description="FilteredPart")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Filter one part."""
    from mm1.data.prepare.pipeline import filter_part
    from mm1.manifests import RawPart

    part = context.load(inputs.part, RawPart)
    folder, _ = given_tokenizer(inputs.tokenizer, context)
    preset = preset_of(inputs.preset, getattr(inputs, part.source))
    log.info("%s: filter preset %s", part.source, preset)
    how = filtering(preset, folder, inputs.remote)
    return Outputs(
        manifest=context.publish(
            filter_part(context.store, part, root_of(inputs, part.source, context.work), how, context.work)
        )
    )


STEP = Step(
    name="ingest_filter",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Read and filter one part of the raw data.",
    checks=(check_preset, check_tokenizer),
)

if __name__ == "__main__":
    main(STEP)
