r"""Ingest raw data on many machines: the two map stages of ingest loop over parts, with one pod per part.

A cluster:   ``hera submit workflows/ingest.py -p captions=s3://raw/cc12m -p text=s3://raw/text``.
One machine: the step ``ingest`` of the other pipelines does the same with a process per core, with the same result.

::

    ingest-plan -> ingest-filter (each part) -> ingest-merge -> ingest-shard (each part) -> ingest-collect

The resulting address is passed to the other pipelines as ``-p data=...``.
"""

from hera.workflows import DAG, Parameter, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import PRESET, SOURCES, TOKENIZER

ALL_SOURCES = (
    *SOURCES,
    Parameter(
        name="synthetic", value="", description="pairs with rewritten captions, in the formats of captions; empty = none"
    ),
    Parameter(
        name="instructions",
        value="",
        description="conversations: LLaVA json or jsonl with its images next to it; empty = none",
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
        Parameter(
            name="remote",
            value="refuse",
            enum=["refuse", "fetch", "fetch-private"],
            description="images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks)",
        ),
        Parameter(
            name="part_bytes",
            value="512000000",
            description="approximate raw bytes per part; a larger file is a part of its own",
        ),
    ],
) as w:
    with DAG(name="ingest"):
        plan = steps.ingest_plan(**steps.given(*ALL_SOURCES, "part_bytes"))
        filtered = steps.ingest_filter(
            part="{{item}}",
            with_param=plan.get_parameter("parts"),
            **steps.given(*ALL_SOURCES, PRESET, "tokenizer", "remote"),
        )
        merged = steps.ingest_merge(parts=filtered.get_parameter("manifest"), **steps.given(*TOKENIZER))
        sharded = steps.ingest_shard(
            merged=merged.get_parameter("manifest"),
            part="{{item}}",
            with_param=plan.get_parameter("parts"),
        )
        steps.ingest_collect(merged=merged.get_parameter("manifest"), parts=sharded.get_parameter("manifest"))

    with DAG(name="at-exit"):
        steps.report(title="Ingested data", status="{{workflow.status}}")
