"""A checkpoint to a served model, if its scores pass the gate: export, contract test, one answer of the real server.

``mm1 run workflows/deploy.py -p checkpoint=<address>``. An evaluation that was done before comes from the step cache; the
gate's decision is an input of ``deploy``, which returns ``deployed=false`` when it is ``fail``::

    evaluate -> gate -> deploy        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with Workflow(
    generate_name="mm1-deploy-",
    entrypoint="deploy",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint"),
        Parameter(name="benchmarks", value="world:0"),
        Parameter(name="split", value="test"),
        Parameter(name="tasks", value="instruct"),
        Parameter(name="shots", value="0"),
        Parameter(name="items", value="256"),
        Parameter(name="style", value="chat"),
        Parameter(name="seed", value="0", description="seed of data order, fresh weights and evaluation items"),
        Parameter(name="rules", value="instruct/0/accuracy>=0.5"),
        Parameter(name="question", value=""),
    ],
) as w:
    with DAG(name="deploy"):
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
        deploy = steps.deploy(
            checkpoint=w.get_parameter("checkpoint"),
            decision=gate.get_parameter("decision"),
            question=w.get_parameter("question"),
            benchmarks=w.get_parameter("benchmarks"),
        )
        evaluate >> gate >> deploy

    with DAG(name="at-exit"):
        steps.report(title="Deployment", status="{{workflow.status}}")
