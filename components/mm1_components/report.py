"""Report step: one HTML page about the run that it belongs to.

It reads the records that the run's other tasks left in the store, and the manifests that these name; so it needs no input, runs
after a failure too (as the exit task), and is never taken from the cache.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1.config.resolve import read_value
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


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

    status = status_of(inputs.status)
    html, page = render_run(context.store, context.run, title=inputs.title, status=status, leave_out=context.task)
    context.artifact("report.html").write_text(html, encoding="utf-8")
    context.note(page_bytes=page.page.num_bytes)
    return Outputs(manifest=context.publish(page))


def status_of(text: str) -> str:
    """An engine's word for how a run ended: Kubeflow hands over a JSON object, in Argo's words then; others are left alone."""
    given = read_value(text)
    state = str(given.get("state", "")) if isinstance(given, dict) else text
    good = dict.fromkeys(("SUCCEEDED", "COMPLETE", "CACHED"), "Succeeded")
    return {**good, "FAILED": "Failed", "CANCELED": "Stopped"}.get(state, state)


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
