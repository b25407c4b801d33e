"""Step ingest_plan: list the raw files of each source and group them into parts, for mappers on many machines.

addresses -> files of each source -> RawPart, RawPart, ... -> the list that the mappers' loop runs over
"""

from __future__ import annotations

import json

from pydantic import BaseModel, Field

from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import PartBytesField, Sources, addresses_of, check_given
from mm1_components.wrapper.sources import raw_root


class Inputs(Sources):
    """Inputs of ingest_plan."""

    part_bytes: PartBytesField = 512_000_000


class Outputs(BaseModel):
    """Outputs of ingest_plan."""

    parts: str = Field(description="JSON list of RawPart addresses")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Group files into parts by name and size; a part whose files did not change keeps its digest."""
    from mm1.data.prepare.pipeline import plan_parts
    from mm1.data.prepare.sources.formats import discover

    addresses, lines = [], ["# Raw files", "", "| source | format | files | parts | MB |", "|---|---|---:|---:|---:|"]
    for source, address in addresses_of(inputs).items():
        form, files = discover(source, raw_root(address, source, context.work))
        parts = plan_parts(source, form, files, inputs.part_bytes)
        addresses += [context.publish(part) for part in parts]
        size = sum(file.num_bytes for file in files) / 1e6
        lines.append(f"| {source} | {form} | {len(files):,} | {len(parts):,} | {size:,.1f} |")
    context.artifact("summary.md").write_text("\n".join(lines) + "\n")
    return Outputs(parts=json.dumps(addresses))


STEP = Step(
    name="ingest_plan",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="List raw files and group them into parts for the mappers of ingest.",
    artifacts=("summary.md",),
    cached=False,
    checks=(check_given,),
)

if __name__ == "__main__":
    main(STEP)
