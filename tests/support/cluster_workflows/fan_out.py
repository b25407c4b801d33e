"""Sixty tasks at once, a few at a time."""

from hera.workflows import DAG, Workflow

from mm1_workflows import steps
from tests.support.toy_steps import STEP

with Workflow(generate_name="mm1-fan-out-", entrypoint="fan-out", parallelism=8) as w, DAG(name="fan-out"):
    steps.task(STEP, name="each", say="{{item}}", with_items=[f"shard-{number:02}" for number in range(60)])
