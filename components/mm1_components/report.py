"""Step report: render an HTML page about the run that it belongs to, and post a message about it to a webhook if there is one.

If traces are sent, it adds the span of the run.

It reads the records of the run's other tasks in the store, and the manifests that they refer to. It therefore needs no input,
also runs after a failure (as the exit task), and is never cached.
"""

from __future__ import annotations

import os
from contextlib import suppress

from pydantic import BaseModel, Field

from mm1.config.resolve import read_value
from mm1.errors import DataError
from mm1.store.base import blob_key
from mm1_components.wrapper import traces
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Inputs of report."""

    status: str = Field(
        "", description="status of the run according to the engine, for example Succeeded or Failed; may be empty"
    )
    title: str = Field("", description="title of the page; empty: the run's name")


class Outputs(BaseModel):
    """Outputs of report."""

    manifest: ManifestUri = Field(description="address of the ReportPage manifest")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Render the page, save it in the store, and write it as an artifact; then notify."""
    from mm1.report.notification import LINK_VARIABLE, URL_VARIABLE, message, post
    from mm1.report.page import render_run

    status = status_of(inputs.status)
    html, page = render_run(context.store, context.run, title=inputs.title, status=status, leave_out=context.task)
    context.artifact("report.html").write_text(html, encoding="utf-8")
    context.note(page_bytes=page.page.num_bytes)
    if url := os.environ.get(URL_VARIABLE):
        address = f"{context.store.uri}/{blob_key(page.page)}"
        content = message(context.store, context.run, status=status, report=address, link=os.environ.get(LINK_VARIABLE, ""))
        context.note(notified=post(url, content))
    _trace(context, status)
    return Outputs(manifest=context.publish(page))


def _trace(context: Context, status: str) -> None:
    """Add the span of the run to its trace."""
    from mm1.lineage.records import read_run

    if traces.is_on():
        with suppress(DataError):  # a damaged record is on the page
            traces.add_run(context.store.uri, context.run, read_run(context.store, context.run).started, status)


def status_of(text: str) -> str:
    """Return a run's status with Argo's names; Kubeflow passes a JSON object with its own."""
    value = read_value(text)
    state = str(value.get("state", "")) if isinstance(value, dict) else text
    succeeded = dict.fromkeys(("SUCCEEDED", "COMPLETE", "CACHED"), "Succeeded")
    return {**succeeded, "FAILED": "Failed", "CANCELED": "Stopped"}.get(state, state)


STEP = Step(
    name="report",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="ReportPage",
    summary="Render an HTML report of the run, and notify a webhook.",
    artifacts=("report.html",),
    cached=False,
    timeout_s=1800,
)

if __name__ == "__main__":
    main(STEP)
