"""Supervised fine-tuning of a checkpoint on instructions, with scores as a chat model (MM1 section 5).

``mm1 run workflows/sft.py -p checkpoint=<address> -p instructions=<LLaVA json or folder>``; the checkpoint is the address
that a pre-training run printed. The checkpoint's own tokenizer is used::

    ingest -> mix -> sft -> evaluate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with Workflow(
    generate_name="mm1-sft-",
    entrypoint="sft",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint"),
        Parameter(name="instructions", value="world:0"),
        Parameter(name="data", value="", description="RawData that exists already; nothing is ingested then"),
        Parameter(name="preset", value="toy"),
        Parameter(name="thresholds", value="quality>=0.1", description="what a shard must be to enter a mixture"),
        Parameter(name="as_of", value="", description="time whose knowledge of the shards counts; empty = now"),
        Parameter(name="sequence_length", value="128"),
        Parameter(name="max_images", value="16"),
        Parameter(name="image_tokens", value="4"),
        Parameter(name="image_size", value="32"),
        Parameter(name="recipe", value="mm1_tiny_sft"),
        Parameter(name="overrides", value=""),
        Parameter(name="nodes", value="1"),
        Parameter(name="processes", value="0"),
        Parameter(name="pool", value=""),
        Parameter(name="seed", value="0", description="seed of data order, fresh weights and evaluation items"),
        Parameter(name="benchmarks", value="world:0"),
        Parameter(name="split", value="test"),
        Parameter(name="tasks", value="instruct"),
        Parameter(name="items", value="256"),
    ],
) as w:
    with DAG(name="sft"):
        ingest = steps.ingest(
            data=w.get_parameter("data"),
            instructions=w.get_parameter("instructions"),
            tokenizer=w.get_parameter("checkpoint"),
            preset=w.get_parameter("preset"),
        )
        mix = steps.data_mix(
            name="mix",
            data=ingest.get_parameter("manifest"),
            weights="instructions=1",
            thresholds=w.get_parameter("thresholds"),
            as_of=w.get_parameter("as_of"),
            sequence_length=w.get_parameter("sequence_length"),
            max_images=w.get_parameter("max_images"),
            image_tokens=w.get_parameter("image_tokens"),
            image_size=w.get_parameter("image_size"),
            seed=w.get_parameter("seed"),
        )
        sft = steps.sft(
            data=mix.get_parameter("manifest"),
            init=w.get_parameter("checkpoint"),
            recipe=w.get_parameter("recipe"),
            overrides=w.get_parameter("overrides"),
            nodes=w.get_parameter("nodes"),
            processes=w.get_parameter("processes"),
            pool=w.get_parameter("pool"),
            seed=w.get_parameter("seed"),
        )
        evaluate = steps.evaluate(
            checkpoint=sft.get_parameter("manifest"),
            benchmarks=w.get_parameter("benchmarks"),
            split=w.get_parameter("split"),
            tasks=w.get_parameter("tasks"),
            shots="0",
            style="chat",
            items=w.get_parameter("items"),
            seed=w.get_parameter("seed"),
        )
        ingest >> mix >> sft >> evaluate

    with DAG(name="at-exit"):
        steps.report(title="Supervised fine-tuning", status="{{workflow.status}}")
