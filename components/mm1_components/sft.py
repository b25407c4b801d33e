"""Supervised fine-tuning: instructions and a pre-trained checkpoint in, a checkpoint that follows instructions out."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError
from mm1_components.ranks.launcher import Layout
from mm1_components.ranks.stage import StageOutputs, resolve_run, run_stage
from mm1_components.wrapper.arguments import ManifestUri, Placement
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """What fine-tuning needs."""

    data: ManifestUri = Field(description="DataMix of instructions")
    init: ManifestUri = Field(description="Checkpoint whose weights to start from")
    recipe: str = Field(description="recipe by name; `mm1 recipes` lists them")
    overrides: str = Field("", description="overrides of the recipe separated by spaces, for example train.steps=20")
    processes: int = Field(0, ge=0, description="trainer processes (ranks) of one node; 0 = one per GPU, or one without GPUs")
    nodes: int = Field(1, ge=1, description="nodes; on one machine their processes run side by side")
    pool: Placement = Field("", description="pool of nodes on a cluster; empty = the profile's for training")
    seed: int = Field(0, description="seed of the run")


def run(inputs: Inputs, context: Context) -> StageOutputs:
    """Train."""
    config = resolve_run(inputs.recipe, inputs.overrides, inputs.seed)
    if config.stage != "sft":
        raise ConfigurationError(f"recipe {inputs.recipe} is for stage {config.stage}: use the step pretrain, or an sft recipe")
    return run_stage(
        config,
        context,
        data=inputs.data,
        init=inputs.init,
        vision="",
        decoder="",
        overrides=inputs.overrides,
        layout=Layout(nodes=inputs.nodes, processes=inputs.processes, pool=inputs.pool, grace_s=STEP.grace_s),
    )


STEP: Step[Inputs, StageOutputs] = Step(
    name="sft",
    inputs=Inputs,
    outputs=StageOutputs,
    run=run,
    summary="Fine-tune a checkpoint on instructions",
    pool="train",
    artifacts=("metrics.json", "metrics.jsonl"),
    distributed=True,
    grace_s=600,
)

if __name__ == "__main__":
    main(STEP)
