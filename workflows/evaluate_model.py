"""Few-shot scores of a checkpoint, and whether they pass the gate (MM1 section 6).

``mm1 run workflows/evaluate_model.py -p checkpoint=<address> -p benchmarks=<folder of VQAv2 and COCO-caption files>``::

    evaluate -> gate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with Workflow(
    generate_name="mm1-evaluate-",
    entrypoint="evaluate",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint"),
        Parameter(name="benchmarks", value="world:0"),
        Parameter(name="split", value="test"),
        Parameter(name="tasks", value="captions vqa vague novel@8 text@0"),
        Parameter(name="shots", value="0 4 8"),
        Parameter(name="items", value="256"),
        Parameter(name="style", value="plain"),
        Parameter(name="seed", value="0", description="seed of data order, fresh weights and evaluation items"),
        Parameter(name="rules", value="captions/0/content_f1>=0.5 vague/4/accuracy>=0.5"),
    ],
) as w:
    with DAG(name="evaluate"):
        evaluate = steps.evaluate(
            checkpoint=w.get_parameter("checkpoint"),
            benchmarks=w.get_parameter("benchmarks"),
            split=w.get_parameter("split"),
            tasks=w.get_parameter("tasks"),
            shots=w.get_parameter("shots"),
            items=w.get_parameter("items"),
            style=w.get_parameter("style"),
            seed=w.get_parameter("seed"),
        )
        gate = steps.gate(reports=evaluate.get_parameter("manifest"), rules=w.get_parameter("rules"))
        evaluate >> gate

    with DAG(name="at-exit"):
        steps.report(title="Evaluation", status="{{workflow.status}}")
