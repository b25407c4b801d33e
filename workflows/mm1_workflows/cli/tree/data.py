"""Commands about data: mm1 data stats, show, score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, Subcommands, command

from mm1_workflows.cli.tree.options import COMMANDS, StoreArg


@command(name="stats", help="Mixture, fill, images and tokens per sequence, dropped counts.", invoke=f"{COMMANDS}.data.stats")
@dataclass
class DataStats:
    """``mm1 data stats``."""

    uri: Annotated[str, Arg(value_name="uri", help="Address or digest (or its beginning) of a DataMix or RawData, or a run.")]
    store: StoreArg = "runs/store"
    json: Annotated[bool, Arg(long=True, help="As JSON.")] = False


@command(name="show", help="Write a page with samples as the model gets them.", invoke=f"{COMMANDS}.data.show")
@dataclass
class DataShow:
    """``mm1 data show``."""

    uri: Annotated[str, Arg(value_name="uri", help="Address or digest (or its beginning) of a DataMix or RawData, or a run.")]
    store: StoreArg = "runs/store"
    sequences: Annotated[int, Arg(long=True, value_name="N", help="Sequences (of RawData: documents of each source).")] = 8
    first: Annotated[int, Arg(long=True, value_name="I", help="Number of the first sequence.")] = 0
    output: Annotated[Path, Arg(long=True, value_name="FILE", help="Where the page goes.")] = Path("runs/data.html")


@command(name="score", help="Add quality scores of shards to the feature store.", invoke=f"{COMMANDS}.data_score.score")
@dataclass
class DataScore:
    """``mm1 data score``."""

    scores: Annotated[Path, Arg(value_name="file", help="CSV or parquet: shard (SHA-256 of its tar), quality.")]
    store: StoreArg = "runs/store"
    at: Annotated[str, Arg(long=True, value_name="TIME", help="When they became known, ISO 8601 [default: now].")] = ""


@command(name="data", help="Look at data: stats, show, score.")
@dataclass
class Data:
    """``mm1 data``."""

    subcommand: Subcommands[DataStats | DataShow | DataScore]
