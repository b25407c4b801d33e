r"""Pre-training of the vision tower alone, on images with captions, before the training on the mixture (MM1 3.2).

``mm1 run workflows/encoder.py`` matches images with captions (CLIP); ``-p recipe=mm1_tiny_aim`` predicts patches (AIM). With
``-p init=<address of a text base> -p tokenizer=<the same address>`` the result has its decoder, and is the `init` of a
pre-training on a mixture with the same tokenizer. The report shows the retrieval among held-out pairs::

    ingest -> mix -> vision        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    CAPTIONS,
    DATA,
    DEVICE_HOURS,
    MIXING,
    PRESET,
    RANKS,
    READING,
    RESUME,
    SEED,
    SYNTHETIC,
    TOKENIZER,
)

with Workflow(
    generate_name="mm1-encoder-",
    entrypoint="encoder",
    on_exit="at-exit",
    arguments=[
        CAPTIONS,
        SYNTHETIC,
        DATA,
        PRESET,
        *READING,
        *TOKENIZER,
        *MIXING,
        Parameter(
            name="init",
            value="",
            description="address of the Checkpoint of a text base, whose decoder is kept, or of a vision tower; empty = none",
        ),
        Parameter(name="recipe", value="mm1_tiny_clip", description="recipe of stage vision; `mm1 recipes` lists all"),
        Parameter(name="overrides", value="", description="overrides of the recipe: path=value ..."),
        RESUME,
        *RANKS,
        DEVICE_HOURS,
        SEED,
    ],
) as w:
    with DAG(name="encoder"):
        ingest = steps.ingest(**steps.given(CAPTIONS, SYNTHETIC, DATA, PRESET, *READING, *TOKENIZER))
        mix = steps.data_mix(
            name="mix", data=ingest.get_parameter("manifest"), weights="captions=1", **steps.given(*MIXING, SEED)
        )
        steps.pretrain_vision(
            name="vision",
            data=mix.get_parameter("manifest"),
            **steps.given(RESUME, *RANKS, DEVICE_HOURS, SEED, "init", "recipe", "overrides"),
        )

    with DAG(name="at-exit"):
        steps.report(title="Vision tower", status="{{workflow.status}}")
