"""The pipeline that `make run` runs, from raw files to a report, on a small world and with few steps; then again, cached."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mm1.lineage.graph import ancestors
from mm1.manifests import Checkpoint, Deployment, EvalReport, ReportPage, load, split_uri
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
FEW = "train.steps=2 train.global_batch=4 train.micro_batch=4 schedule.warmup_steps=1"


def run_chain(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    given = {part: folder / "world" / part for part in PARTS}
    given |= {"text_overrides": FEW, "overrides": FEW, "sft_overrides": FEW, "items": 8, "shots": "0 2"}
    given |= {"tasks": "captions vague@2 text@0 instruct@0", "rules": "captions/0/content_f1>=0"}
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    command = [
        sys.executable,
        "-c",
        "from mm1_workflows.cli import main; main()",
        "run",
        str(ROOT / "workflows" / "full.py"),
    ]
    options = ["--run", "chain", "--store", str(folder / "store"), *parameters, *more]
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=400)


def test_raw_files_become_a_served_model_and_a_report(tmp_path):
    for part in PARTS:
        write_part(part, tmp_path / "world" / part, WorldConfig.small())
    first = run_chain(tmp_path)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]

    folder = tmp_path / "runs" / "chain"
    uris = {path.parts[-3]: path.read_text() for path in folder.glob("*/out/manifest")}
    deployment = load(uris["deploy"], Deployment)
    assert deployment.deployed and deployment.sample["question"]
    assert {score.task for score in load(uris["evaluate-base"], EvalReport).scores} == {"captions", "vague", "text", "instruct"}
    kinds = [
        type(item).__name__ for item in ancestors(open_store(str(tmp_path / "store")), split_uri(uris["deploy"])[1]).values()
    ]
    assert kinds[0] == "Deployment" and "RawData" in kinds
    stages = [load(uris[task], Checkpoint).stage for task in ("text-base", "pretrain", "sft")]
    assert stages == ["text", "pretrain", "sft"]
    page = (folder / "report" / "report.html").read_text()
    assert load(uris["report"], ReportPage).page.num_bytes == len(page.encode())
    assert not re.search(r"""(src|href)=["']https?://""", page)

    again = run_chain(tmp_path)
    assert again.returncode == 0 and "11 of 12 steps cached" in again.stdout, again.stdout[-3000:]
    assert {path.parts[-3]: path.read_text() for path in folder.glob("*/out/manifest")}["deploy"] == uris["deploy"]
