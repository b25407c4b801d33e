"""The pipeline that ``make run`` runs, on a small world and with two steps of each training: the run ``toy``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part
from mm1_components.wrapper.raw_data import SOURCES
from tests.support.documentation import ROOT
from tests.support.warm_python import WarmPython

RUN = "toy"
FEW = "train.steps=2 train.global_batch=4 train.micro_batch=4 schedule.warmup_steps=1"


def write_world(folder: Path) -> None:
    """Write the raw files that the pipeline reads."""
    for part in PARTS:
        write_part(part, folder / "world" / part, WorldConfig.small())


def run_chain(python: WarmPython, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the pipeline in a folder that holds a world; its results are below ``runs``."""
    given = {part: folder / "world" / part for part in (*SOURCES, "benchmarks") if part in PARTS}
    given |= {"text_overrides": FEW, "overrides": FEW, "sft_overrides": FEW, "items": 8, "shots": "0 2"}
    given |= {"preset": "toy", "tasks": "captions vague@2 text@0 instruct@0", "chat_tasks": "captions@0 instruct"}
    given["rules"] = "captions/0/content_f1>=0"
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    command = ["run", str(ROOT / "workflows" / "full.py"), "--run", RUN, *parameters]
    return python.run("mm1_workflows.cli", *command, cwd=folder, timeout=400)
