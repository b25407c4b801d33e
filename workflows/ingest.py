r"""Ingest raw data on many machines: the two map stages of ingest loop over batches, with one pod per batch of parts.

A cluster:   ``hera submit workflows/ingest.py -p captions=s3://raw/cc12m -p text=s3://raw/text``.
One machine: the step ``ingest`` of the other pipelines does the same with a process per core, with the same result.

::

    ingest-plan -> ingest-filter (each batch) -> ingest-merge -> ingest-shard (each batch) -> ingest-collect

The resulting address is passed to the other pipelines as ``-p data=...``.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import PRESET, READING, SOURCES, SYNTHETIC, TOKENIZER

ALL_SOURCES = (
    *SOURCES,
    SYNTHETIC,
    Parameter(
        name="instructions",
        value="",
        description="conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet; empty = none",
    ),
)

with Workflow(
    generate_name="mm1-ingest-",
    entrypoint="ingest",
    on_exit="at-exit",
    arguments=[
        *ALL_SOURCES,
        PRESET,
        *TOKENIZER,
        *READING,
        Parameter(name="max_row_bytes", value="67108864", description="maximum size of a row; larger ones are dropped"),
        Parameter(
            name="part_bytes",
            value="64000000",
            description="approximate raw bytes per part",
        ),
    ],
) as w:
    with DAG(name="ingest"):
        how = ("remote", "columns", "max_row_bytes")
        plan = steps.ingest_plan(**steps.given(*ALL_SOURCES, *how, "part_bytes"))
        filtered = steps.ingest_filter(
            plan=plan.get_parameter("manifest"),
            batch="{{item}}",
            with_param=plan.get_parameter("batches"),
            **steps.given(*ALL_SOURCES, *how, PRESET, "tokenizer"),
        )
        merged = steps.ingest_merge(batches=filtered.get_parameter("manifest"), **steps.given(*TOKENIZER, "max_damaged_share"))
        sharded = steps.ingest_shard(
            merged=merged.get_parameter("manifest"),
            batch="{{item}}",
            with_param=plan.get_parameter("batches"),
        )
        steps.ingest_collect(
            plan=plan.get_parameter("manifest"),
            merged=merged.get_parameter("manifest"),
            batches=sharded.get_parameter("manifest"),
        )

    with DAG(name="at-exit"):
        steps.report(title="Ingested data", status="{{workflow.status}}")
