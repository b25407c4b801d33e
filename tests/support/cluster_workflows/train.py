"""Training alone, on a mixture that is there already."""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import RANKS, SEED

arguments = [
    Parameter(name="data", description="address of the DataMix"),
    Parameter(name="recipe", value="mm1_tiny_lm", description="recipe; `mm1 recipes` lists all"),
    Parameter(name="overrides", value="", description="overrides of the recipe: path=value ..."),
    *RANKS,
    SEED,
]
with Workflow(generate_name="mm1-train-", entrypoint="train", arguments=arguments) as w, DAG(name="train"):
    steps.pretrain(**steps.given(*arguments))
