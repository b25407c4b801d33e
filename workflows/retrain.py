r"""Retraining that decides: train again if enough is new, and replace the served model only by a better one.

``mm1 run workflows/retrain.py`` by hand; on a cluster the chart runs it on a schedule (``schedules.retrain``). All tasks after
``decide`` are skipped if it decides to wait, and the reason is in the run, its report and the notification::

    ingest -> decide -> mix -> pretrain (from the served model) \
                   \-> instruction-mix ---------------------------> sft -> evaluate -> gate (against it) -> deploy -> rollout

A retraining whose budget was used up ends with a checkpoint, and the next one continues it.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    BENCHMARKS,
    DATA,
    IMAGE_SIZE,
    INSTRUCTIONS,
    PRESET,
    QUESTION,
    RANKS,
    READING,
    ROLLOUT,
    SEED,
    SEQUENCES,
    SFT_WEIGHTS,
    SIGN_KEY,
    SOURCES,
    SYNTHETIC,
    TARGET,
    THRESHOLDS,
    WEIGHTS,
)

RETRAIN = "'{{tasks.decide.outputs.parameters.decision}}' == 'retrain'"
TRIGGERS = (
    Parameter(
        name="sources",
        value="captions interleaved text",
        description="sources whose new data count: those of the pre-training mixture, separated by spaces",
    ),
    Parameter(name="min_samples", value="0", description="train again from this number of new samples on; 0 = off"),
    Parameter(
        name="min_share",
        value="0.05",
        description="train again from this ratio of new samples to those of the last mixture on; 0 = off",
    ),
    Parameter(
        name="max_drift",
        value="0.25",
        description="train again if the population stability index of a statistic of the new data is larger; 0 = off",
    ),
    Parameter(
        name="max_age_days",
        value="0",
        description="train again if anything is new and the served model is older, in days; 0 = off",
    ),
)
BUDGET = (
    Parameter(
        name="device_hours",
        value="",
        description="device hours (wall time times processes) that the retrainings of a period may spend; then training saves "
        "a checkpoint, and continues in the next period; empty = no limit",
    ),
    Parameter(name="period_days", value="7", description="length of the budget's period, in days"),
)

with Workflow(
    generate_name="mm1-retrain-",
    entrypoint="retrain",
    on_exit="at-exit",
    arguments=[
        *SOURCES,
        SYNTHETIC,
        INSTRUCTIONS,
        DATA,
        PRESET,
        *READING,
        Parameter(
            name="tokenizer",
            value="serving:mm1",
            description="serving:<target> (that of the served model; one is trained if nothing is served), a Hugging Face "
            "folder, or the address of a RawData, DataMix or Checkpoint manifest",
        ),
        Parameter(name="vocabulary", value="1024", description="vocabulary size of a trained tokenizer"),
        TARGET,
        *TRIGGERS,
        *BUDGET,
        Parameter(
            name="init",
            value="",
            description="address of the Checkpoint to continue from if nothing is served, with its tokenizer as tokenizer; "
            "empty = random initialization",
        ),
        THRESHOLDS,
        *SEQUENCES,
        IMAGE_SIZE,
        *WEIGHTS,
        Parameter(
            name="recipe", value="mm1_tiny", description="recipe of pre-training on the mixture; `mm1 recipes` lists all"
        ),
        Parameter(name="overrides", value="", description="overrides of the pre-training recipe: path=value ..."),
        SFT_WEIGHTS,
        Parameter(
            name="sft_image_layout",
            value="single",
            description="division of images into tiles in fine-tuning: single, static (MM1) or dynamic (MM1.5)",
        ),
        Parameter(name="sft_recipe", value="mm1_tiny_sft", description="recipe of fine-tuning; `mm1 recipes` lists all"),
        Parameter(name="sft_overrides", value="", description="overrides of the fine-tuning recipe: path=value ..."),
        *RANKS,
        SEED,
        *BENCHMARKS,
        Parameter(name="tasks", value="instruct captions@0", description="tasks of the rules, separated by spaces"),
        Parameter(
            name="style",
            value="plain",
            enum=["plain", "chat"],
            description="prompts of tasks without a style of their own: plain = prompt templates, chat = the model's chat "
            "template",
        ),
        Parameter(
            name="rules",
            value="instruct/0/accuracy>=0.5 captions/0/content_f1>=0.5 instruct/0/accuracy>=serving-0.1 "
            "captions/0/content_f1>=serving-0.05",
            description="gate: task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold",
        ),
        QUESTION,
        SIGN_KEY,
        *ROLLOUT,
    ],
) as w:
    with DAG(name="retrain"):
        ingest = steps.ingest(
            **steps.given(*SOURCES, SYNTHETIC, INSTRUCTIONS, DATA, PRESET, *READING, "tokenizer", "vocabulary")
        )
        decide = steps.decide(data=ingest.get_parameter("manifest"), **steps.given(TARGET, *TRIGGERS, *BUDGET, "init"))
        mixing = {
            "data": decide.get_parameter("data"),
            "as_of": decide.get_parameter("as_of"),
            "when": RETRAIN,
            **steps.given(THRESHOLDS, *SEQUENCES, IMAGE_SIZE, SEED),
        }
        mix = steps.data_mix(name="mix", **mixing, **steps.given(*WEIGHTS))
        instruction_mix = steps.data_mix(
            name="instruction-mix", **mixing, **steps.given(weights="sft_weights", image_layout="sft_image_layout")
        )
        pretrain = steps.pretrain(
            data=mix.get_parameter("manifest"),
            init=decide.get_parameter("init"),
            device_hours=decide.get_parameter("device_hours"),
            when=RETRAIN,
            **steps.given(*RANKS, SEED, "recipe", "overrides"),
        )
        sft = steps.sft(
            data=instruction_mix.get_parameter("manifest"),
            init=pretrain.get_parameter("manifest"),
            device_hours=pretrain.get_parameter("device_hours_left"),
            when=RETRAIN,
            **steps.given(*RANKS, SEED, recipe="sft_recipe", overrides="sft_overrides"),
        )
        evaluate = steps.evaluate(
            checkpoint=sft.get_parameter("manifest"),
            shots="0",
            when=RETRAIN,
            **steps.given(*BENCHMARKS, SEED, "tasks", "style"),
        )
        gate = steps.gate(
            reports=evaluate.get_parameter("manifest"),
            checkpoint=sft.get_parameter("manifest"),
            serving=decide.get_parameter("serving"),
            when=RETRAIN,
            **steps.given("rules"),
        )
        deploy = steps.deploy(
            checkpoint=sft.get_parameter("manifest"),
            decision=gate.get_parameter("decision"),
            when=RETRAIN,
            **steps.given(QUESTION, SIGN_KEY, "benchmarks"),
        )
        steps.rollout(
            deployment=deploy.get_parameter("manifest"),
            decision=gate.get_parameter("decision"),
            when=RETRAIN,
            **steps.given(TARGET, *ROLLOUT),
        )

    with DAG(name="at-exit"):
        steps.report(title="Retraining", status="{{workflow.status}}")
