"""Step sft: supervised fine-tuning of a pre-trained checkpoint on instructions."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mm1_components.ranks.stage import (
    NodesField,
    OverridesField,
    PoolField,
    ProcessesField,
    RecipeField,
    ResumeField,
    training_step,
)
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.device_hours import DeviceHoursField
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Inputs of sft."""

    data: ManifestUri = Field(description="DataMix of instructions")
    init: ManifestUri = Field(description="Checkpoint to initialize from")
    resume: ResumeField = ""
    recipe: RecipeField
    overrides: OverridesField = ""
    processes: ProcessesField = 0
    nodes: NodesField = 1
    pool: PoolField = ""
    device_hours: DeviceHoursField = ""
    seed: int = Field(0, ge=0, description="seed of the run")


STEP = training_step("sft", Inputs, ("sft",), "Fine-tune a checkpoint on instructions")

if __name__ == "__main__":
    main(STEP)
