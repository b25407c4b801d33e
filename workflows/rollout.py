"""Serve a deployed model on a cluster: a canary answers its image questions, then the served model is replaced, or not.

``mm1 rollout promote ADDRESS -n mm1`` submits this workflow of the chart, ``mm1 rollout rollback -n mm1`` the same with
``action=rollback``. On one machine it only records what ``mm1 serve`` serves::

    rollout        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import ROLLOUT, TARGET

with Workflow(
    generate_name="mm1-rollout-",
    entrypoint="rollout",
    on_exit="at-exit",
    arguments=[
        Parameter(
            name="deployment",
            description="address of the Deployment to serve; empty, only for a rollback: the model before",
        ),
        Parameter(
            name="action",
            value="promote",
            enum=["promote", "rollback"],
            description="promote, or rollback: at once, without a canary",
        ),
        TARGET,
        *ROLLOUT,
    ],
) as w:
    with DAG(name="rollout"):
        steps.rollout(**steps.given("deployment", "action", TARGET, *ROLLOUT))

    with DAG(name="at-exit"):
        steps.report(title="Rollout", status="{{workflow.status}}")
