r"""Pre-train and evaluate a model on raw data: a text base first, then the paper's mixture (MM1 4).

One machine: ``mm1 run workflows/pretrain.py -p captions=<img2dataset folder> -p text=<jsonl>``.
A cluster:   ``hera submit workflows/pretrain.py -p recipe=mm1_tiny_moe``.

::

    ingest -> text-mix -> text-base \
          \-> mix ----------------> pretrain -> evaluate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    BENCHMARKS,
    DATA,
    DEVICE_HOURS,
    MIXING,
    PRESET,
    PRETRAINING,
    RANKS,
    READING,
    RESUME,
    SEED,
    SOURCES,
    SYNTHETIC,
    TOKENIZER,
)

with Workflow(
    generate_name="mm1-pretrain-",
    entrypoint="pretrain",
    on_exit="at-exit",
    arguments=[
        *SOURCES,
        SYNTHETIC,
        DATA,
        PRESET,
        *READING,
        *TOKENIZER,
        *MIXING,
        *PRETRAINING,
        RESUME,
        *RANKS,
        DEVICE_HOURS,
        SEED,
        *BENCHMARKS,
        Parameter(
            name="tasks",
            value="captions captions_heldout@0 vqa vqa_heldout@0,4 vague novel@8 text@0",
            description="tasks, separated by spaces; name@0,4 sets the shots of one task",
        ),
        Parameter(name="shots", value="0 4 8", description="numbers of demonstrations, separated by spaces"),
    ],
) as w:
    with DAG(name="pretrain"):
        ingest = steps.ingest(**steps.given(*SOURCES, SYNTHETIC, DATA, PRESET, *READING, *TOKENIZER))
        raw = ingest.get_parameter("manifest")
        mixing = steps.given(*MIXING, SEED)
        text_mix = steps.data_mix(name="text-mix", data=raw, weights="text", **mixing)
        mix = steps.data_mix(name="mix", data=raw, **steps.given("weights", "weights_by"), **mixing)
        text_base = steps.pretrain(
            name="text-base",
            data=text_mix.get_parameter("manifest"),
            **steps.given(*RANKS, DEVICE_HOURS, SEED, "decoder", recipe="text_recipe", overrides="text_overrides"),
        )
        pretrain = steps.pretrain(
            data=mix.get_parameter("manifest"),
            init=text_base.get_parameter("manifest"),
            device_hours=text_base.get_parameter("device_hours_left"),
            **steps.given(RESUME, *RANKS, SEED, "recipe", "overrides", "vision"),
        )
        steps.evaluate(
            checkpoint=pretrain.get_parameter("manifest"),
            **steps.given(*BENCHMARKS, SEED, "tasks", "shots"),
        )

    with DAG(name="at-exit"):
        steps.report(title="Pre-training", status="{{workflow.status}}")
