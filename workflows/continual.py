"""Continual pre-training of a checkpoint at a higher resolution, before fine-tuning (MM1.5, arXiv 2409.20566).

``mm1 run workflows/continual.py -p checkpoint=<address>`` with the address printed by a pre-training run. The default data are
pages of text, as in MM1.5, of which the toy world has some (``part=ocr``). The phase takes the model alone, and its position
embeddings are interpolated to the images. The tokenizer is that of the checkpoint::

    ingest -> mix -> continual -> evaluate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    BENCHMARKS,
    DATA,
    DEVICE_HOURS,
    IMAGE_LAYOUT,
    PACKING,
    PRESET,
    RANKS,
    READING,
    RESUME,
    SEED,
    SYNTHETIC,
    WEIGHTS,
)

OCR_SOURCES = (
    Parameter(
        name="captions",
        value="world:0?part=ocr",
        description="images with text and that text, in the formats of image-caption pairs; world:<seed>?part=ocr = pages of "
        "the toy world",
    ),
    Parameter(name="interleaved", value="", description="documents of images and text: OBELICS or MMC4; empty = none"),
    Parameter(name="text", value="", description="text documents: JSON lines, parquet or Arrow; empty = none"),
)

with Workflow(
    generate_name="mm1-continual-",
    entrypoint="continual",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint", description="address of the Checkpoint to start from, with its tokenizer"),
        *OCR_SOURCES,
        SYNTHETIC,
        DATA,
        PRESET,
        *READING,
        *PACKING,
        Parameter(name="image_size", value="64", description="height and width of the model's input images, in pixels"),
        IMAGE_LAYOUT,
        *WEIGHTS,
        Parameter(name="recipe", value="mm1_tiny_continual", description="recipe of the phase; `mm1 recipes` lists all"),
        Parameter(name="overrides", value="", description="overrides of the recipe: path=value ..."),
        RESUME,
        *RANKS,
        DEVICE_HOURS,
        SEED,
        *BENCHMARKS,
        Parameter(
            name="tasks",
            value="ocr captions vqa",
            description="tasks, separated by spaces; name@0,4 sets the shots of one task",
        ),
        Parameter(name="shots", value="0 4", description="numbers of demonstrations, separated by spaces"),
    ],
) as w:
    with DAG(name="continual"):
        ingest = steps.ingest(**steps.given(*OCR_SOURCES, SYNTHETIC, DATA, PRESET, *READING, tokenizer="checkpoint"))
        mix = steps.data_mix(
            name="mix",
            data=ingest.get_parameter("manifest"),
            **steps.given(*WEIGHTS, *PACKING, IMAGE_LAYOUT, SEED, "image_size"),
        )
        continual = steps.pretrain(
            name="continual",
            data=mix.get_parameter("manifest"),
            **steps.given(RESUME, *RANKS, DEVICE_HOURS, SEED, "recipe", "overrides", init="checkpoint"),
        )
        steps.evaluate(
            checkpoint=continual.get_parameter("manifest"),
            **steps.given(*BENCHMARKS, SEED, "tasks", "shots"),
        )

    with DAG(name="at-exit"):
        steps.report(title="Continual pre-training", status="{{workflow.status}}")
