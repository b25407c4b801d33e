"""Step study_train: train a cell of a plan, or a beginning that several cells share.

StudyPlan + name of a cell -> Checkpoint of its last training stage

The stages before its evaluation run one after the other, each as the step that it is: results of other cells and of other
runs are used again, and a training that was stopped continues.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main

GRACE_S = 600
"""As in the training steps: enough for one step and a checkpoint."""


class Inputs(BaseModel):
    """Inputs of study_train."""

    plan: ManifestUri = Field(description="StudyPlan")
    cell: str = Field(description="name of a cell or of a shared chain; several are joined by +")
    tolerate: bool = Field(
        False,
        description="end without a Checkpoint if the training diverges or runs out of memory, so that other cells go on",
    )


class Outputs(BaseModel):
    """Outputs of study_train."""

    manifest: ManifestUri = Field("", description="Checkpoint; empty if the training failed")
    failure: str = Field("", description="outcome class and message of a training that failed")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Train the chains, one after the other.

    Raises:
        Mm1Error: the error of a stage; those that are tolerated are an output.
    """
    from mm1.errors import DivergedError, Ending, OutOfMemory
    from mm1.manifests import StudyPlan
    from mm1.studies.plan import chains_named
    from mm1_components.chains.run import train_chain

    cells = chains_named(context.load(inputs.plan, StudyPlan), inputs.cell)
    checkpoint = ""
    try:
        for cell in cells:
            checkpoint = train_chain(cell, context, f"{cell.name}/" if len(cells) > 1 else "")
    except (DivergedError, OutOfMemory) as error:
        if not inputs.tolerate:
            raise
        ending = Ending.of(error)
        return Outputs(failure=f"{ending.outcome.label}: {ending.message}")
    return Outputs(manifest=checkpoint)


STEP = Step(
    name="study_train",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Train a cell of a study, or a beginning that cells share.",
    pool="train",
    cached=False,
    distributed=True,
    grace_s=GRACE_S,
)

if __name__ == "__main__":
    main(STEP)
