"""Step pretrain: train a recipe on a mixture. The text base is a stage of the same trainer.

DataMix (+ initial Checkpoint, + Hugging Face folders of model parts) -> Checkpoint
"""

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
from mm1_components.wrapper.sources import LocalFiles


class Inputs(BaseModel):
    """Inputs of pretrain."""

    data: ManifestUri = Field(description="DataMix to train on")
    recipe: RecipeField
    init: ManifestUri = Field("", description="Checkpoint to initialize from; empty = random initialization")
    resume: ResumeField = ""
    vision: LocalFiles = Field(
        "", description="folder of a vision tower in Hugging Face format; empty = the tower of the recipe or of init"
    )
    decoder: LocalFiles = Field(
        "", description="folder of a causal decoder in Hugging Face format; in the text stage it is published without training"
    )
    overrides: OverridesField = ""
    processes: ProcessesField = 0
    nodes: NodesField = 1
    pool: PoolField = ""
    device_hours: DeviceHoursField = ""
    seed: int = Field(0, ge=0, description="seed of the initialization")


STEP = training_step("pretrain", Inputs, ("text", "pretrain"), "Train a recipe on a mixture: the text base, or image and text")

if __name__ == "__main__":
    main(STEP)
