"""Report step: one HTML page about the run that it belongs to.

It reads the records that the run's other tasks left in the store, and the manifests that these name; so it needs no input, runs
after a failure too (as the exit task), and is never taken from the cache.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1_components.arguments import ManifestUri
from mm1_components.step import Context, Step, main


class Inputs(BaseModel):
    """What may be said about the run."""

    status: str = Field("", description="how the engine says that the run ended, for example Succeeded or Failed; may be empty")
    title: str = Field("", description="heading of the page; empty: the run's name")


class Outputs(BaseModel):
    """The page."""

    manifest: ManifestUri = Field(description="address of the ReportPage manifest")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Render the page, keep it in the store, and leave it as an artifact."""
    from mm1.report.page import render_run

    html, page = render_run(context.store, context.run, title=inputs.title, status=inputs.status, leave_out=context.task)
    context.artifact("report.html").write_text(html, encoding="utf-8")
    context.note(page_bytes=page.page.num_bytes)
    return Outputs(manifest=context.publish(page))


STEP = Step(
    name="report",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Make one HTML report of the run.",
    artifacts=("report.html",),
    cached=False,
    timeout_s=1800,
)

if __name__ == "__main__":
    main(STEP)
