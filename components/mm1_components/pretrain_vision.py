"""Step pretrain_vision: train the vision tower alone, on images and captions, before pre-training (MM1 3.2).

DataMix of captions (+ Checkpoint of a text base) -> Checkpoint of the whole model, in which the tower is trained. Step pretrain
takes it as `init`: tower and decoder come from it, the connector is fresh.
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


class Inputs(BaseModel):
    """Inputs of pretrain_vision."""

    data: ManifestUri = Field(description="DataMix to train on; of captions, for example weights=captions=1")
    recipe: RecipeField
    init: ManifestUri = Field(
        "", description="Checkpoint of a text base, whose decoder is kept, or of a vision tower; empty = random initialization"
    )
    resume: ResumeField = ""
    overrides: OverridesField = ""
    processes: ProcessesField = 0
    nodes: NodesField = 1
    pool: PoolField = ""
    device_hours: DeviceHoursField = ""
    seed: int = Field(0, ge=0, description="seed of the initialization")


STEP = training_step(
    "pretrain_vision", Inputs, ("vision",), "Train the vision tower alone on images and captions: contrastive or pixels"
)

if __name__ == "__main__":
    main(STEP)
