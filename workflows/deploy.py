"""Deploy a checkpoint if its scores pass the gate: export, contract test, one answer of the real server.

``mm1 run workflows/deploy.py -p checkpoint=<address>``. An earlier evaluation is taken from the step cache. The gate's decision
is an input of ``deploy``, which returns ``deployed=false`` if it is ``fail``::

    evaluate -> gate -> deploy        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import BENCHMARKS, QUESTION, SEED, SERVING, SIGN_KEY

with Workflow(
    generate_name="mm1-deploy-",
    entrypoint="deploy",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint", description="address of the Checkpoint to deploy"),
        *BENCHMARKS,
        Parameter(name="tasks", value="instruct", description="tasks to score, separated by spaces"),
        Parameter(name="shots", value="0", description="numbers of demonstrations, separated by spaces"),
        Parameter(
            name="style",
            value="chat",
            enum=["plain", "chat"],
            description="prompts of tasks without a style of their own: plain = prompt templates, chat = the model's chat "
            "template",
        ),
        SEED,
        Parameter(
            name="rules",
            value="instruct/0/accuracy>=0.5",
            description="gate: task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold",
        ),
        SERVING,
        QUESTION,
        SIGN_KEY,
    ],
) as w:
    with DAG(name="deploy"):
        evaluate = steps.evaluate(**steps.given("checkpoint", *BENCHMARKS, "tasks", "shots", "style", SEED))
        gate = steps.gate(reports=evaluate.get_parameter("manifest"), **steps.given("checkpoint", "rules", SERVING))
        steps.deploy(
            decision=gate.get_parameter("decision"),
            **steps.given("checkpoint", "benchmarks", QUESTION, SIGN_KEY),
        )

    with DAG(name="at-exit"):
        steps.report(title="Deployment", status="{{workflow.status}}")
