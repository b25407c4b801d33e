r"""The whole pipeline: raw data, text base, mixture, SFT, evaluation, gate, deployment, report (run by ``make run``).

::

    ingest -> text-mix --------> text-base \
          \-> mix --------------------------> pretrain -> evaluate-base
           \-> instruction-mix -----------------------\-> sft -> evaluate-sft -> gate -> deploy     (at exit: report)

The gate judges the fine-tuned model, which is the one that is deployed, by its own scores.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import (
    BENCHMARKS,
    DATA,
    DEVICE_HOURS,
    INSTRUCTIONS,
    MIXING,
    PRESET,
    PRETRAINING,
    QUESTION,
    RANKS,
    READING,
    SEED,
    SERVING,
    SFT_WEIGHTS,
    SIGN_KEY,
    SOURCES,
    SYNTHETIC,
    TOKENIZER,
)

with Workflow(
    generate_name="mm1-full-",
    entrypoint="full",
    on_exit="at-exit",
    arguments=[
        *SOURCES,
        SYNTHETIC,
        INSTRUCTIONS,
        DATA,
        PRESET,
        *READING,
        *TOKENIZER,
        *MIXING,
        *PRETRAINING,
        SFT_WEIGHTS,
        Parameter(
            name="sft_image_layout",
            value="single",
            description="division of images into tiles in fine-tuning: single, static (MM1) or dynamic (MM1.5)",
        ),
        Parameter(name="sft_recipe", value="mm1_tiny_sft", description="recipe of fine-tuning; `mm1 recipes` lists all"),
        Parameter(name="sft_overrides", value="", description="overrides of the fine-tuning recipe: path=value ..."),
        *RANKS,
        DEVICE_HOURS,
        SEED,
        *BENCHMARKS,
        Parameter(
            name="tasks",
            value="captions captions_heldout@0 vqa vqa_heldout@0,4 vague novel@8 text@0 instruct@0",
            description="tasks for the pre-trained model; name@0,4 sets the shots of one task",
        ),
        Parameter(name="shots", value="0 4 8", description="numbers of demonstrations, separated by spaces"),
        Parameter(
            name="chat_tasks",
            value="instruct captions@0 vague@4 novel@8 text@0",
            description="tasks for the fine-tuned model, with those of the rules",
        ),
        Parameter(
            name="style",
            value="plain",
            enum=["plain", "chat"],
            description="prompts of tasks without a style of their own: plain = prompt templates, chat = the model's chat "
            "template",
        ),
        Parameter(
            name="rules",
            value="captions/0/content_f1>=0.85 vague/4/accuracy>=0.8 novel/8/accuracy>=0.8 text/0/accuracy>=0.7 "
            "instruct/0/accuracy>=0.5",
            description="gate: task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold",
        ),
        SERVING,
        QUESTION,
        SIGN_KEY,
    ],
) as w:
    with DAG(name="full"):
        ingest = steps.ingest(**steps.given(*SOURCES, SYNTHETIC, INSTRUCTIONS, DATA, PRESET, *READING, *TOKENIZER))
        raw = ingest.get_parameter("manifest")
        mixing = steps.given(*MIXING, SEED)
        text_mix = steps.data_mix(name="text-mix", data=raw, weights="text", **mixing)
        mix = steps.data_mix(name="mix", data=raw, **steps.given("weights", "weights_by"), **mixing)
        instruction_mix = steps.data_mix(
            name="instruction-mix", data=raw, **steps.given(weights="sft_weights", image_layout="sft_image_layout"), **mixing
        )
        text_base = steps.pretrain(
            name="text-base",
            data=text_mix.get_parameter("manifest"),
            **steps.given(*RANKS, DEVICE_HOURS, SEED, "decoder", recipe="text_recipe", overrides="text_overrides"),
        )
        pretrain = steps.pretrain(
            data=mix.get_parameter("manifest"),
            init=text_base.get_parameter("manifest"),
            device_hours=text_base.get_parameter("device_hours_left"),
            **steps.given(*RANKS, SEED, "recipe", "overrides", "vision"),
        )
        steps.evaluate(
            name="evaluate-base",
            checkpoint=pretrain.get_parameter("manifest"),
            **steps.given(*BENCHMARKS, SEED, "tasks", "shots"),
        )
        sft = steps.sft(
            data=instruction_mix.get_parameter("manifest"),
            init=pretrain.get_parameter("manifest"),
            device_hours=pretrain.get_parameter("device_hours_left"),
            **steps.given(*RANKS, SEED, recipe="sft_recipe", overrides="sft_overrides"),
        )
        evaluate_sft = steps.evaluate(
            name="evaluate-sft",
            checkpoint=sft.get_parameter("manifest"),
            shots="0",
            **steps.given(*BENCHMARKS, SEED, "style", tasks="chat_tasks"),
        )
        gate = steps.gate(
            reports=evaluate_sft.get_parameter("manifest"),
            checkpoint=sft.get_parameter("manifest"),
            **steps.given("rules", SERVING),
        )
        steps.deploy(
            checkpoint=sft.get_parameter("manifest"),
            decision=gate.get_parameter("decision"),
            **steps.given(QUESTION, SIGN_KEY, "benchmarks"),
        )

    with DAG(name="at-exit"):
        steps.report(title="MM1 from raw data to a served model", status="{{workflow.status}}")
