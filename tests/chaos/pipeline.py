"""A short pipeline to disturb: data, a dense model, and a mixture of experts upcycled from it."""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

sources = [Parameter(name=name) for name in ("captions", "interleaved", "text")]
training = [Parameter(name=name) for name in ("dense_overrides", "moe_overrides", "processes")]
arguments = [*sources, *training]
with Workflow(generate_name="chaos-", entrypoint="chaos", arguments=arguments) as w, DAG(name="chaos"):
    ingest = steps.ingest(**steps.given(*sources), preset="toy")
    mix = steps.data_mix(data=ingest.get_parameter("manifest"))
    dense = steps.pretrain(
        name="dense",
        data=mix.get_parameter("manifest"),
        recipe="mm1_tiny",
        **steps.given("processes", overrides="dense_overrides"),
    )
    steps.pretrain(
        name="moe",
        data=mix.get_parameter("manifest"),
        init=dense.get_parameter("manifest"),
        recipe="mm1_tiny_moe",
        **steps.given("processes", overrides="moe_overrides"),
    )
