"""Step study_evaluate: score the Checkpoint of a cell on the tasks that its studies need.

StudyPlan + name of a cell + Checkpoints of all cells -> EvalReport
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Inputs of study_evaluate."""

    plan: ManifestUri = Field(description="StudyPlan")
    cell: str = Field(description="name of a cell")
    trained: str = Field(description="JSON list: Checkpoint of each cell, in the order of the plan; empty for one that failed")


class Outputs(BaseModel):
    """Outputs of study_evaluate."""

    manifest: ManifestUri = Field("", description="EvalReport; empty if the training failed, or only losses are compared")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Evaluate the cell.

    Raises:
        Mm1Error: an error of the step evaluate, or a list that is not that of the plan.
    """
    from mm1.manifests import StudyPlan
    from mm1.studies.plan import chains_named
    from mm1_components.chains.run import evaluate_chain, result_of

    plan = context.load(inputs.plan, StudyPlan)
    (cell,) = chains_named(plan, inputs.cell)
    checkpoint = result_of(plan, cell, inputs.trained)
    return Outputs(manifest=evaluate_chain(cell, checkpoint, context) if checkpoint else "")


STEP = Step(
    name="study_evaluate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Score the Checkpoint of a cell of a study.",
    pool="eval",
    cached=False,
    timeout_s=14_400,
)

if __name__ == "__main__":
    main(STEP)
