r"""Ablations: train and score all levels and seeds of some studies, and compute the verdicts on their claims (MM1 3).

One machine: ``make ablate``, or ``mm1 run workflows/ablate.py -p studies=caption_interleaved``.
A cluster:   ``hera submit workflows/ablate.py -p studies="$(cat my_study.yaml)"``.

::

    study-plan -> bases -> shared -> train (each cell) -> evaluate (each cell) -> study-report    (at exit: report)

Cells do not stop each other: one that diverges, also in a stage that it shares, is named in the report, and after another
failure the same command continues.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

CORE = "caption_interleaved text_share image_tokens image_resolution connector shots multi_image chain_of_thought"
"""Studies that run by default, in the order of the report."""

with Workflow(
    generate_name="mm1-ablate-",
    entrypoint="ablate",
    on_exit="at-exit",
    arguments=[
        Parameter(
            name="studies",
            value=CORE,
            description="names of studies (studies/*.yaml), separated by spaces, or the text of a study of yours",
        ),
        Parameter(
            name="base",
            value="",
            description="chain that the levels change: a name (studies/bases), or the text of one; empty = that of each study",
        ),
        Parameter(name="seeds", value="", description="seeds, separated by spaces; empty = those of each study"),
    ],
) as w:
    with DAG(name="ablate", fail_fast=False):
        plan = steps.study_plan(**steps.given("studies", "base", "seeds"))
        manifest = plan.get_parameter("manifest")
        bases = steps.study_train(
            name="bases", plan=manifest, cell="{{item}}", tolerate=True, with_param=plan.get_parameter("bases")
        )
        shared = steps.study_train(
            name="shared", plan=manifest, cell="{{item}}", tolerate=True, with_param=plan.get_parameter("shared")
        )
        train = steps.study_train(
            name="train", plan=manifest, cell="{{item}}", tolerate=True, with_param=plan.get_parameter("cells")
        )
        bases >> shared >> train
        evaluate = steps.study_evaluate(
            name="evaluate",
            plan=manifest,
            cell="{{item}}",
            trained=train.get_parameter("manifest"),
            with_param=plan.get_parameter("cells"),
        )
        steps.study_report(plan=manifest, trained=train.get_parameter("manifest"), reports=evaluate.get_parameter("manifest"))

    with DAG(name="at-exit"):
        steps.report(title="Ablations", status="{{workflow.status}}")
