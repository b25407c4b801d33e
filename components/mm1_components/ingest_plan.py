"""Step ingest_plan: list the raw files of each source and group them into parts, for mappers on many machines.

addresses -> files of each source -> parts, in batches (IngestPlan) -> the list that the mappers' loop runs over
"""

from __future__ import annotations

import json

from pydantic import BaseModel, Field

from mm1.data.config import PART_BYTES
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import PartBytesField, Sources, check_columns, check_given


class Inputs(Sources):
    """Inputs of ingest_plan."""

    part_bytes: PartBytesField = PART_BYTES


class Outputs(BaseModel):
    """Outputs of ingest_plan."""

    manifest: ManifestUri = Field(description="IngestPlan")
    batches: str = Field(description="JSON list of the batches' numbers")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Group files into parts by name and size; a part whose files did not change is not read again."""
    from mm1_components.parts.plan import plan_sources
    from mm1_components.parts.summary import plan_summary

    plan = plan_sources(inputs, inputs.part_bytes, context.work)
    context.artifact("summary.md").write_text(plan_summary(plan))
    return Outputs(manifest=context.publish(plan), batches=json.dumps([str(number) for number in range(plan.num_batches)]))


STEP = Step(
    name="ingest_plan",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="IngestPlan",
    summary="List raw files and group them into parts for the mappers of ingest.",
    artifacts=("summary.md",),
    cached=False,
    checks=(check_given, check_columns),
)

if __name__ == "__main__":
    main(STEP)
