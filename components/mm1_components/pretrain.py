"""Pre-training: a mixture and a recipe in, a checkpoint out. The text base is a stage of the same trainer.

DataMix (+ Checkpoint to start from, + Hugging Face folders of parts) -> Checkpoint
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError
from mm1_components.ranks.launcher import Layout
from mm1_components.ranks.stage import StageOutputs, resolve_run, run_stage
from mm1_components.wrapper.arguments import ManifestUri, Placement, Source
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """What pre-training needs."""

    data: ManifestUri = Field(description="DataMix to train on")
    recipe: str = Field(description="recipe by name; `mm1 recipes` lists them")
    init: ManifestUri = Field("", description="Checkpoint whose weights to start from; empty = fresh weights")
    vision: Source = Field(
        "", description="folder of a vision tower in Hugging Face layout; empty = that of the recipe or of init"
    )
    decoder: Source = Field(
        "", description="folder of a causal decoder in Hugging Face layout; in the text stage it is published without training"
    )
    overrides: str = Field("", description="overrides of the recipe separated by spaces, for example train.steps=20")
    processes: int = Field(0, ge=0, description="trainer processes (ranks) of one node; 0 = one per GPU, or one without GPUs")
    nodes: int = Field(1, ge=1, description="nodes; on one machine their processes run side by side")
    pool: Placement = Field("", description="pool of nodes on a cluster; empty = the profile's for training")
    seed: int = Field(0, description="seed of fresh weights")


def run(inputs: Inputs, context: Context) -> StageOutputs:
    """Train, or import a decoder."""
    config = resolve_run(inputs.recipe, inputs.overrides, inputs.seed)
    if config.stage == "sft":
        raise ConfigurationError(f"recipe {inputs.recipe} is for fine-tuning: use the step sft, or another recipe")
    return run_stage(
        config,
        context,
        data=inputs.data,
        init=inputs.init,
        vision=inputs.vision,
        decoder=inputs.decoder,
        overrides=inputs.overrides,
        layout=Layout(nodes=inputs.nodes, processes=inputs.processes, pool=inputs.pool, grace_s=STEP.grace_s),
    )


STEP: Step[Inputs, StageOutputs] = Step(
    name="pretrain",
    inputs=Inputs,
    outputs=StageOutputs,
    run=run,
    summary="Train a recipe on a mixture: the text base, or image and text",
    pool="train",
    artifacts=("metrics.json", "metrics.jsonl"),
    distributed=True,
    grace_s=600,
)

if __name__ == "__main__":
    main(STEP)
