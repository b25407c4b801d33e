"""Training alone, on a mixture that is there already."""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with (
    Workflow(
        generate_name="mm1-train-",
        entrypoint="train",
        arguments=[
            Parameter(name="data"),
            Parameter(name="recipe", value="mm1_tiny_lm"),
            Parameter(name="overrides", value=""),
            Parameter(name="nodes", value="1"),
            Parameter(name="processes", value="0"),
            Parameter(name="pool", value=""),
            Parameter(name="seed", value="0"),
        ],
    ) as w,
    DAG(name="train"),
):
    steps.pretrain(
        data=w.get_parameter("data"),
        recipe=w.get_parameter("recipe"),
        overrides=w.get_parameter("overrides"),
        nodes=w.get_parameter("nodes"),
        processes=w.get_parameter("processes"),
        pool=w.get_parameter("pool"),
        seed=w.get_parameter("seed"),
    )
