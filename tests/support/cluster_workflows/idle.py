"""Five steps that do nothing, one after the other: what an engine itself costs."""

from hera.workflows import DAG, Workflow

from mm1_workflows import steps
from tests.support.toy_steps import STEP

with Workflow(generate_name="mm1-idle-", entrypoint="idle") as w, DAG(name="idle"):
    former = None
    for number in range(5):
        task = steps.task(STEP, name=f"idle-{number}")
        if former is not None:
            former >> task
        former = task
