"""Commands that read and tidy a store: runs, compare, lineage, gc."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.tree.options import COMMANDS, Cluster, StoreArg


@command(name="runs", help="List runs with state, duration and cache hits.", invoke=f"{COMMANDS}.runs.runs")
@dataclass
class Runs(Cluster):
    """``mm1 runs``."""

    run: Annotated[str, Arg(value_name="run", help="One run: its tasks [default: all runs].")] = ""
    store: StoreArg = "runs/store"
    cluster: Annotated[
        bool, Arg(long=True, help="The runs of a cluster's namespace, as Argo knows them, not those of the store.")
    ] = False
    state: Annotated[
        str, Arg(long=True, value_name="STATE", help="Only runs that are done, failed, running (or waiting, on a cluster).")
    ] = ""
    since: Annotated[
        str, Arg(long=True, value_name="TIME", help="Only runs started within this time (90m, 12h, 7d) or since a date.")
    ] = ""
    limit: Annotated[int, Arg(long=True, value_name="N", help="At most so many, newest first.")] = 20


@command(name="compare", help="Two runs side by side: parameters, losses, scores.", invoke=f"{COMMANDS}.compare.compare")
@dataclass
class Compare:
    """``mm1 compare``."""

    first: Annotated[str, Arg(value_name="run-a", help="A run.")]
    second: Annotated[str, Arg(value_name="run-b", help="Another run.")]
    store: StoreArg = "runs/store"
    all: Annotated[bool, Arg(long=True, help="Also what is equal.")] = False


@command(name="lineage", help="What a manifest was made from, back to the raw shards.", invoke=f"{COMMANDS}.lineage.lineage")
@dataclass
class Lineage:
    """``mm1 lineage``."""

    uri: Annotated[str, Arg(value_name="uri", help="Address or digest (or its beginning) of a manifest, or a run.")]
    store: StoreArg = "runs/store"
    html: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also draw it into an HTML file.")] = None
    dot: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also write it for Graphviz.")] = None


@command(name="gc", help="Remove what no kept run, pin or model needs from the store.", invoke=f"{COMMANDS}.gc.collect")
@dataclass
class Gc:
    """``mm1 gc``."""

    store: StoreArg = "runs/store"
    keep: Annotated[int, Arg(long=True, value_name="N", help="Keep the N newest runs.")] = 20
    keep_run: Annotated[list[str], Arg(long=True, value_name="NAME", help="Keep this run as well; may be repeated.")] = field(
        default_factory=list
    )
    yes: Annotated[bool, Arg(long=True, help="Remove; without it only what would be removed is listed.")] = False
