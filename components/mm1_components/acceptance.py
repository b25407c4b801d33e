"""Step acceptance: measure network, store and processors of the training nodes, and fail below given thresholds.

Nothing -> measurements of each node. The ranks start as in `pretrain`: here, or as a JobSet on a cluster.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError
from mm1_components.ranks.stage import NodesField, PoolField, ProcessesField
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main

if TYPE_CHECKING:
    from mm1.train.config import TrainResult

log = logging.getLogger("mm1")


class Inputs(BaseModel):
    """Inputs of acceptance."""

    nodes: NodesField = 1
    processes: ProcessesField = 0
    pool: PoolField = ""
    reduce_mb: int = Field(64, ge=0, description="size of the all-reduced tensor in MB; 0 = no all-reduce")
    store_mb: int = Field(64, ge=0, description="size of an object in the store in MB; 0 = no reads and writes")
    streams: int = Field(4, ge=1, description="concurrent writes and reads of a node, next to those of one stream")
    images_s: float = Field(1.0, ge=0, description="seconds of image decoding; 0 = none")
    min_all_reduce_gb_s: float = Field(0.0, ge=0, description="lowest bus bandwidth among all ranks, GB/s; 0 = only measure")
    min_node_all_reduce_gb_s: float = Field(
        0.0, ge=0, description="lowest bus bandwidth among the ranks of a node, GB/s; 0 = only measure"
    )
    min_write_mb_s: float = Field(0.0, ge=0, description="lowest speed of a node's concurrent writes, MB/s; 0 = only measure")
    min_read_mb_s: float = Field(0.0, ge=0, description="lowest speed of a node's concurrent reads, MB/s; 0 = only measure")
    min_images_s: float = Field(0.0, ge=0, description="fewest images/s decoded by one core; 0 = only measure")


class Outputs(BaseModel):
    """Outputs of acceptance."""

    num_nodes: int = Field(description="number of nodes that were measured")


@dataclass(frozen=True)
class Quantity:
    """What is measured on each node."""

    name: str
    title: str
    unit: str
    limit: str = ""
    """Input with the threshold; empty = none."""
    remedy: str = ""


QUANTITIES = (
    Quantity(
        "all_reduce_gb_s",
        "all-reduce of all ranks, bus bandwidth",
        "GB/s",
        "min_all_reduce_gb_s",
        "check the pool's interfaces, its placement and the NCCL plugin in the image",
    ),
    Quantity(
        "node_all_reduce_gb_s",
        "all-reduce within the node, bus bandwidth",
        "GB/s",
        "min_node_all_reduce_gb_s",
        "replace the node; its links between GPUs are slow",
    ),
    Quantity("write_mb_s", "store, one write", "MB/s"),
    Quantity(
        "write_streams_mb_s",
        "store, concurrent writes",
        "MB/s",
        "min_write_mb_s",
        "check the region of the bucket and its private endpoint",
    ),
    Quantity("read_mb_s", "store, one reader", "MB/s"),
    Quantity(
        "read_streams_mb_s",
        "store, concurrent readers",
        "MB/s",
        "min_read_mb_s",
        "check the region of the bucket and its private endpoint",
    ),
    Quantity(
        "images_s",
        "JPEG of 336 px decoded by one core",
        "images/s",
        "min_images_s",
        "choose machines with faster cores, or fewer processes per node",
    ),
)


def run(inputs: Inputs, context: Context) -> Outputs:
    """Measure, write report.html and metrics.json, then compare with the thresholds.

    Raises:
        ConfigurationError: a node is below a threshold, or a threshold is of something that was not measured.
        Mm1Error: the ranks failed.
    """
    result = _measure(inputs, context)
    nodes = result.measurements
    failures = below(inputs, nodes)
    _write(inputs, context, nodes, failures)
    for node in nodes:
        values = [f"{each.title} {node[each.name]:.1f} {each.unit}" for each in QUANTITIES if each.name in node]
        log.info("node %s, %d rank(s): %s", node["host"], node["ranks"], "; ".join(values))
    if failures:
        raise ConfigurationError(f"below the thresholds: {'; '.join(failures)}")
    return Outputs(num_nodes=len(nodes))


def _measure(inputs: Inputs, context: Context) -> TrainResult:
    from mm1.recipes import registry
    from mm1.store.base import digest_of
    from mm1.train.config import Probe, TrainJob
    from mm1_components.ranks.launcher import Layout
    from mm1_components.ranks.train import train

    job = TrainJob(
        config=registry.get("mm1_tiny"),  # of which only the time limits count
        data="",
        store=context.store.uri,
        key=digest_of(f"acceptance/{context.run}/{context.task}".encode()),
        run=context.run,
        code=context.code,
        folder=str(context.work),
        logs=context.logs,
        probe=Probe(reduce_mb=inputs.reduce_mb, store_mb=inputs.store_mb, streams=inputs.streams, images_s=inputs.images_s),
    )
    return train(job, Layout(nodes=inputs.nodes, processes=inputs.processes, pool=inputs.pool), context)


def below(inputs: Inputs, nodes: tuple[dict[str, float | str], ...]) -> list[str]:
    """Describe what is slower than its threshold: value, limit, the input to change, and what to check."""
    failures = []
    for quantity in QUANTITIES:
        limit = float(getattr(inputs, quantity.limit)) if quantity.limit else 0.0
        if not limit:
            continue
        for node in nodes:
            if quantity.name not in node:
                failures.append(
                    f"{quantity.limit}: {quantity.title} was not measured on {node['host']} ({node['ranks']:.0f} rank(s)); "
                    f"set {quantity.limit}=0, or measure it (an all-reduce needs two ranks)"
                )
            elif float(node[quantity.name]) < limit:
                failures.append(
                    f"{quantity.limit}: expected at least {limit:g} {quantity.unit} on {node['host']}, got "
                    f"{node[quantity.name]:.4g} ({quantity.title}); {quantity.remedy}"
                )
    return failures


def _write(inputs: Inputs, context: Context, nodes: tuple[dict[str, float | str], ...], failures: list[str]) -> None:
    from mm1.report.page import environment

    settings = inputs.model_dump()
    metrics = {"nodes": nodes, "failures": failures, "settings": settings}
    context.artifact("metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    worst = {
        each.name: round(min(values), 3)
        for each in QUANTITIES
        if (values := [float(node[each.name]) for node in nodes if each.name in node])
    }
    context.note(**{f"lowest_{name}": value for name, value in worst.items()})
    rows = [(each, settings[each.limit] if each.limit else 0, [node.get(each.name) for node in nodes]) for each in QUANTITIES]
    page = (
        environment()
        .get_template("acceptance.html.j2")
        .render(title="Acceptance of the training nodes", nodes=nodes, rows=rows, failures=failures, settings=settings)
    )
    context.artifact("report.html").write_text(page, encoding="utf-8")


STEP = Step(
    name="acceptance",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Measure all-reduce, store and image decoding on the training nodes, and fail below thresholds",
    pool="train",
    artifacts=("report.html", "metrics.json"),
    cached=False,
    distributed=True,
    grace_s=300,
    timeout_s=3600,
)

if __name__ == "__main__":
    main(STEP)
