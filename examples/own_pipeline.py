"""A pipeline of your own, with a step of your own: mix data once there are enough images.

PYTHONPATH=examples mm1 run examples/own_pipeline.py -p data="$(cat runs/toy/ingest/out/manifest)" -p least=100

`--list` prints its parameters, `mm1 lint` checks it, and `mm1 submit` sends it to a cluster.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import SEED
from own_step import STEP

data = Parameter(name="data", description="address of RawData")
least = Parameter(name="least", value="1000", description="images that are enough")
with Workflow(generate_name="own-", entrypoint="own", arguments=[data, least, SEED]) as w, DAG(name="own"):
    count = steps.task(STEP, **steps.given(data, least))
    steps.data_mix(when=f"{count.get_parameter('enough')} == true", **steps.given(data, SEED))
