"""Accept a cluster before its first training: measure network, store and processors of its training nodes.

One machine: ``mm1 run workflows/acceptance.py -p processes=2``.
A cluster:   ``mm1 submit workflows/acceptance.py -p nodes=2 -p min_all_reduce_gb_s=100``::

    acceptance        (at exit: report)
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import RANKS

SIZES = (
    Parameter(name="reduce_mb", value="64", description="size of the all-reduced tensor in MB; 0 = no all-reduce"),
    Parameter(name="store_mb", value="64", description="size of an object in the store in MB; 0 = no reads and writes"),
    Parameter(name="streams", value="4", description="concurrent writes and reads of a node, next to those of one stream"),
    Parameter(name="images_s", value="1", description="seconds of image decoding; 0 = none"),
)
THRESHOLDS = (
    Parameter(
        name="min_all_reduce_gb_s", value="0", description="lowest bus bandwidth among all ranks, GB/s; 0 = only measure"
    ),
    Parameter(
        name="min_node_all_reduce_gb_s",
        value="0",
        description="lowest bus bandwidth among the ranks of a node, GB/s; 0 = only measure",
    ),
    Parameter(name="min_write_mb_s", value="0", description="lowest speed of concurrent writes, MB/s; 0 = only measure"),
    Parameter(name="min_read_mb_s", value="0", description="lowest speed of concurrent reads, MB/s; 0 = only measure"),
    Parameter(name="min_images_s", value="0", description="fewest images/s decoded by one core; 0 = only measure"),
)

with Workflow(
    generate_name="mm1-acceptance-",
    entrypoint="acceptance",
    on_exit="at-exit",
    arguments=[*RANKS, *SIZES, *THRESHOLDS],
) as w:
    with DAG(name="acceptance"):
        steps.acceptance(**steps.given(*RANKS, *SIZES, *THRESHOLDS))

    with DAG(name="at-exit"):
        steps.report(title="Acceptance", status="{{workflow.status}}")
