r"""Raw data to shards on many machines: the two maps of ingest are loops over parts, each part in a pod of its own.

A cluster:   ``hera submit workflows/ingest.py -p captions=s3://raw/cc12m -p text=s3://raw/text -p preset=paper``.
One machine: the step ``ingest`` of the other pipelines does the same with a process per core, and gives the same data.

::

    ingest-plan -> ingest-filter (each part) -> ingest-merge -> ingest-shard (each part) -> ingest-collect

The address that comes out goes into ``-p data=...`` of the other pipelines.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps

with Workflow(
    generate_name="mm1-ingest-",
    entrypoint="ingest",
    on_exit="at-exit",
    arguments=[
        Parameter(name="captions", value="world:0"),
        Parameter(name="synthetic", value=""),
        Parameter(name="interleaved", value="world:0"),
        Parameter(name="text", value="world:0"),
        Parameter(name="instructions", value=""),
        Parameter(name="preset", value="toy"),
        Parameter(name="tokenizer", value="train"),
        Parameter(name="vocabulary", value="1024"),
        Parameter(name="remote", value="refuse"),
        Parameter(name="part_bytes", value="512000000"),
    ],
) as w:
    sources = {name: w.get_parameter(name) for name in ("captions", "synthetic", "interleaved", "text", "instructions")}
    with DAG(name="ingest"):
        plan = steps.ingest_plan(**sources, part_bytes=w.get_parameter("part_bytes"))
        filtered = steps.ingest_filter(
            **sources,
            part="{{item}}",
            tokenizer=w.get_parameter("tokenizer"),
            preset=w.get_parameter("preset"),
            remote=w.get_parameter("remote"),
            with_param=plan.get_parameter("parts"),
        )
        merged = steps.ingest_merge(
            parts=filtered.get_parameter("manifest"),
            tokenizer=w.get_parameter("tokenizer"),
            vocabulary=w.get_parameter("vocabulary"),
        )
        sharded = steps.ingest_shard(
            merged=merged.get_parameter("manifest"), part="{{item}}", with_param=plan.get_parameter("parts")
        )
        collected = steps.ingest_collect(merged=merged.get_parameter("manifest"), parts=sharded.get_parameter("manifest"))
        plan >> [filtered, sharded]
        filtered >> merged >> sharded >> collected
        merged >> collected

    with DAG(name="at-exit"):
        steps.report(title="Ingested data", status="{{workflow.status}}")
