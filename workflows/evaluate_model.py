"""Evaluate a checkpoint few-shot and check its scores against the gate (MM1 4, appendix C).

``mm1 run workflows/evaluate_model.py -p checkpoint=<address> -p benchmarks=<folder of VQAv2 and COCO-caption files>``::

    evaluate -> gate        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import BENCHMARKS, SEED, SERVING

with Workflow(
    generate_name="mm1-evaluate-",
    entrypoint="evaluate",
    on_exit="at-exit",
    arguments=[
        Parameter(name="checkpoint", description="address of the Checkpoint to score"),
        *BENCHMARKS,
        Parameter(
            name="tasks",
            value="captions vqa vague novel@8 text@0",
            description="tasks, separated by spaces; name@0,4 sets the shots of one task",
        ),
        Parameter(name="shots", value="0 4 8", description="numbers of demonstrations, separated by spaces"),
        Parameter(
            name="style",
            value="plain",
            enum=["plain", "chat"],
            description="prompts of tasks without a style of their own: plain = prompt templates, chat = the model's chat "
            "template",
        ),
        SEED,
        Parameter(
            name="rules",
            value="captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
            description="gate: task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold",
        ),
        SERVING,
    ],
) as w:
    with DAG(name="evaluate"):
        evaluate = steps.evaluate(**steps.given("checkpoint", *BENCHMARKS, "tasks", "shots", "style", SEED))
        steps.gate(reports=evaluate.get_parameter("manifest"), **steps.given("checkpoint", "rules", SERVING))

    with DAG(name="at-exit"):
        steps.report(title="Evaluation", status="{{workflow.status}}")
