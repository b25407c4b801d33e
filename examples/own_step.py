"""A step of your own: are there enough images to train?

    PYTHONPATH=examples python -m own_step --data "$(cat runs/toy/ingest/out/manifest)" --least 100

It lies in any module that can be imported; on a cluster, the module must be in the image. `own_pipeline.py` uses it.
"""

from pydantic import BaseModel, Field

from mm1.manifests import RawData
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Inputs of count_images."""

    data: ManifestUri = Field(description="RawData to count")
    least: int = Field(1000, ge=0, description="images that are enough")


class Outputs(BaseModel):
    """Outputs of count_images."""

    images: int = Field(description="images in all sources")
    enough: bool = Field(description="whether there are at least that many")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Count the images of all sources."""
    images = sum(source.num_images for source in context.load(inputs.data, RawData).sources.values())
    return Outputs(images=images, enough=images >= inputs.least)


STEP = Step(name="count_images", inputs=Inputs, outputs=Outputs, run=run, summary="Say whether there are enough images.")

if __name__ == "__main__":
    main(STEP)
