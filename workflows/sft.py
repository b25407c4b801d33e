"""Supervised fine-tuning of a checkpoint on instructions, and its evaluation as a chat model (MM1 section 5).

``mm1 run workflows/sft.py -p checkpoint=<address> -p instructions=<LLaVA json or folder>`` with the address printed by a
pre-training run. The tokenizer is that of the checkpoint::

    ingest -> mix -> sft -> evaluate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    BENCHMARKS,
    DATA,
    DEVICE_HOURS,
    IMAGE_LAYOUT,
    INSTRUCTIONS,
    MIXING,
    PRESET,
    RANKS,
    READING,
    RESUME,
    SEED,
    SFT_WEIGHTS,
)

with Workflow(
    generate_name="mm1-sft-",
    entrypoint="sft",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint", description="address of the Checkpoint to fine-tune, with its tokenizer"),
        INSTRUCTIONS,
        Parameter(name="captions", value="", description="captions of pre-training to mix in; empty = none"),
        Parameter(name="interleaved", value="", description="interleaved documents of pre-training to mix in; empty = none"),
        Parameter(name="text", value="", description="text of pre-training to mix in; empty = none"),
        DATA,
        PRESET,
        *READING,
        *MIXING,
        IMAGE_LAYOUT,
        SFT_WEIGHTS,
        Parameter(name="recipe", value="mm1_tiny_sft", description="recipe of fine-tuning; `mm1 recipes` lists all"),
        Parameter(name="overrides", value="", description="overrides of the recipe: path=value ..."),
        RESUME,
        *RANKS,
        DEVICE_HOURS,
        SEED,
        *BENCHMARKS,
        Parameter(
            name="tasks", value="instruct", description="tasks, separated by spaces; asked as chat, without demonstrations"
        ),
    ],
) as w:
    with DAG(name="sft"):
        ingest = steps.ingest(
            **steps.given(INSTRUCTIONS, "captions", "interleaved", "text", DATA, PRESET, *READING, tokenizer="checkpoint")
        )
        mix = steps.data_mix(
            name="mix",
            data=ingest.get_parameter("manifest"),
            **steps.given(*MIXING, IMAGE_LAYOUT, SEED, weights="sft_weights"),
        )
        sft = steps.sft(
            data=mix.get_parameter("manifest"),
            **steps.given(RESUME, *RANKS, DEVICE_HOURS, SEED, "recipe", "overrides", init="checkpoint"),
        )
        steps.evaluate(
            checkpoint=sft.get_parameter("manifest"),
            shots="0",
            style="chat",
            **steps.given(*BENCHMARKS, SEED, "tasks"),
        )

    with DAG(name="at-exit"):
        steps.report(title="Supervised fine-tuning", status="{{workflow.status}}")
