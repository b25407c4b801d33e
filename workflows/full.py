r"""The whole chain: raw data, text base, mixture, SFT, evaluation, gate, deployment, report (what ``make run`` runs).

::

    ingest -> text-mix --------> text-base \
          \-> mix --------------------------> pretrain -> evaluate-base ------------\
           \-> instruction-mix -----------------------\-> sft -> evaluate-sft -> gate -> deploy     (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with Workflow(
    generate_name="mm1-full-",
    entrypoint="full",
    on_exit="at-exit",
    arguments=[
        Parameter(name="captions", value="world:0"),
        Parameter(name="interleaved", value="world:0"),
        Parameter(name="text", value="world:0"),
        Parameter(name="instructions", value="world:0"),
        Parameter(name="data", value="", description="RawData that exists already; nothing is ingested then"),
        Parameter(name="preset", value="toy"),
        Parameter(name="tokenizer", value="train"),
        Parameter(name="vocabulary", value="1024"),
        Parameter(name="vision", value=""),
        Parameter(name="decoder", value=""),
        Parameter(name="weights", value="mm1", description="share of each source, or mm1, mm1.5"),
        Parameter(name="thresholds", value="quality>=0.1", description="what a shard must be to enter a mixture"),
        Parameter(name="as_of", value="", description="time whose knowledge of the shards counts; empty = now"),
        Parameter(name="sequence_length", value="128"),
        Parameter(name="max_images", value="24"),
        Parameter(name="image_tokens", value="4"),
        Parameter(name="image_size", value="32"),
        Parameter(name="text_recipe", value="mm1_tiny_lm", description="recipe of the text base"),
        Parameter(name="text_overrides", value="", description="overrides of the text base's recipe: path=value ..."),
        Parameter(name="recipe", value="mm1_tiny", description="recipe of the pre-training on the mixture"),
        Parameter(name="overrides", value="", description="overrides of the pre-training's recipe: path=value ..."),
        Parameter(name="sft_recipe", value="mm1_tiny_sft", description="recipe of the fine-tuning on instructions"),
        Parameter(name="sft_overrides", value="", description="overrides of the fine-tuning's recipe: path=value ..."),
        Parameter(name="nodes", value="1"),
        Parameter(name="processes", value="0"),
        Parameter(name="pool", value=""),
        Parameter(name="seed", value="0", description="seed of data order, fresh weights and evaluation items"),
        Parameter(name="benchmarks", value="world:0"),
        Parameter(name="split", value="test"),
        Parameter(name="tasks", value="captions captions_heldout@0 vqa vqa_heldout@0,4 vague novel@8 text@0 instruct@0"),
        Parameter(
            name="chat_tasks",
            value="instruct",
            description="tasks that the tuned model is scored on",
        ),
        Parameter(name="shots", value="0 4 8"),
        Parameter(name="items", value="256"),
        Parameter(
            name="rules",
            value="captions/0/content_f1>=0.85 vague/4/accuracy>=0.8 novel/8/accuracy>=0.8 text/0/accuracy>=0.7 "
            "instruct/0/accuracy>=0.5",
        ),
        Parameter(name="question", value=""),
    ],
) as w:
    with DAG(name="full"):
        ingest = steps.ingest(
            data=w.get_parameter("data"),
            captions=w.get_parameter("captions"),
            interleaved=w.get_parameter("interleaved"),
            text=w.get_parameter("text"),
            instructions=w.get_parameter("instructions"),
            tokenizer=w.get_parameter("tokenizer"),
            vocabulary=w.get_parameter("vocabulary"),
            preset=w.get_parameter("preset"),
        )
        raw = ingest.get_parameter("manifest")
        text_mix = steps.data_mix(
            name="text-mix",
            data=raw,
            weights="text=1",
            thresholds=w.get_parameter("thresholds"),
            as_of=w.get_parameter("as_of"),
            sequence_length=w.get_parameter("sequence_length"),
            max_images=w.get_parameter("max_images"),
            image_tokens=w.get_parameter("image_tokens"),
            image_size=w.get_parameter("image_size"),
            seed=w.get_parameter("seed"),
        )
        mix = steps.data_mix(
            name="mix",
            data=raw,
            weights=w.get_parameter("weights"),
            thresholds=w.get_parameter("thresholds"),
            as_of=w.get_parameter("as_of"),
            sequence_length=w.get_parameter("sequence_length"),
            max_images=w.get_parameter("max_images"),
            image_tokens=w.get_parameter("image_tokens"),
            image_size=w.get_parameter("image_size"),
            seed=w.get_parameter("seed"),
        )
        instruction_mix = steps.data_mix(
            name="instruction-mix",
            data=raw,
            weights="instructions=1",
            thresholds=w.get_parameter("thresholds"),
            as_of=w.get_parameter("as_of"),
            sequence_length=w.get_parameter("sequence_length"),
            max_images=w.get_parameter("max_images"),
            image_tokens=w.get_parameter("image_tokens"),
            image_size=w.get_parameter("image_size"),
            seed=w.get_parameter("seed"),
        )
        text_base = steps.pretrain(
            name="text-base",
            data=text_mix.get_parameter("manifest"),
            recipe=w.get_parameter("text_recipe"),
            decoder=w.get_parameter("decoder"),
            overrides=w.get_parameter("text_overrides"),
            nodes=w.get_parameter("nodes"),
            processes=w.get_parameter("processes"),
            pool=w.get_parameter("pool"),
            seed=w.get_parameter("seed"),
        )
        pretrain = steps.pretrain(
            data=mix.get_parameter("manifest"),
            recipe=w.get_parameter("recipe"),
            init=text_base.get_parameter("manifest"),
            vision=w.get_parameter("vision"),
            overrides=w.get_parameter("overrides"),
            nodes=w.get_parameter("nodes"),
            processes=w.get_parameter("processes"),
            pool=w.get_parameter("pool"),
            seed=w.get_parameter("seed"),
        )
        evaluate_base = steps.evaluate(
            name="evaluate-base",
            checkpoint=pretrain.get_parameter("manifest"),
            benchmarks=w.get_parameter("benchmarks"),
            split=w.get_parameter("split"),
            tasks=w.get_parameter("tasks"),
            shots=w.get_parameter("shots"),
            items=w.get_parameter("items"),
            seed=w.get_parameter("seed"),
        )
        sft = steps.sft(
            data=instruction_mix.get_parameter("manifest"),
            init=pretrain.get_parameter("manifest"),
            recipe=w.get_parameter("sft_recipe"),
            overrides=w.get_parameter("sft_overrides"),
            nodes=w.get_parameter("nodes"),
            processes=w.get_parameter("processes"),
            pool=w.get_parameter("pool"),
            seed=w.get_parameter("seed"),
        )
        evaluate_sft = steps.evaluate(
            name="evaluate-sft",
            checkpoint=sft.get_parameter("manifest"),
            benchmarks=w.get_parameter("benchmarks"),
            split=w.get_parameter("split"),
            tasks=w.get_parameter("chat_tasks"),
            shots="0",
            style="chat",
            items=w.get_parameter("items"),
            seed=w.get_parameter("seed"),
        )
        gate = steps.gate(
            reports=f"{evaluate_base.get_parameter('manifest')} {evaluate_sft.get_parameter('manifest')}",
            rules=w.get_parameter("rules"),
        )
        deploy = steps.deploy(
            checkpoint=sft.get_parameter("manifest"),
            decision=gate.get_parameter("decision"),
            question=w.get_parameter("question"),
            benchmarks=w.get_parameter("benchmarks"),
        )
        ingest >> [text_mix, mix, instruction_mix]
        text_mix >> text_base
        [text_base, mix] >> pretrain
        pretrain >> evaluate_base
        [instruction_mix, pretrain] >> sft
        sft >> evaluate_sft
        [evaluate_base, evaluate_sft] >> gate
        [sft, gate] >> deploy

    with DAG(name="at-exit"):
        steps.report(title="MM1 from raw data to a served model", status="{{workflow.status}}")
