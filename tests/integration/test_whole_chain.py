"""The pipeline that `make run` runs, from raw files to a model that answers, on a small world; then again, cached."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from mm1.lineage.graph import ancestors
from mm1.manifests import Checkpoint, Deployment, EvalReport, ReportPage, load, split_uri
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part
from tests.support.serving import server
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
FEW = "train.steps=2 train.global_batch=4 train.micro_batch=4 schedule.warmup_steps=1"


def run_chain(python: WarmPython, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    given = {part: folder / "world" / part for part in PARTS}
    given |= {"text_overrides": FEW, "overrides": FEW, "sft_overrides": FEW, "items": 8, "shots": "0 2"}
    given |= {"tasks": "captions vague@2 text@0 instruct@0", "rules": "captions/0/content_f1>=0"}
    parameters = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    command = ["run", str(ROOT / "workflows" / "full.py"), "--run", "chain", "--store", str(folder / "store")]
    return python.run("mm1_workflows.cli", *command, *parameters, *more, cwd=folder, timeout=400)


def test_raw_files_become_a_served_model_and_a_report(tmp_path, warm_python):
    for part in PARTS:
        write_part(part, tmp_path / "world" / part, WorldConfig.small())
    first = run_chain(warm_python, tmp_path)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]

    folder = tmp_path / "runs" / "chain"
    store = open_store(str(tmp_path / "store"))
    uris = {path.parts[-3]: path.read_text() for path in folder.glob("*/out/manifest")}
    deployment = load(uris["deploy"], Deployment)
    assert deployment.deployed and deployment.sample["question"]
    assert {score.task for score in load(uris["evaluate-base"], EvalReport).scores} == {"captions", "vague", "text", "instruct"}
    kinds = [type(item).__name__ for item in ancestors(store, split_uri(uris["deploy"])[1]).values()]
    assert kinds[0] == "Deployment" and "RawData" in kinds
    stages = [load(uris[task], Checkpoint).stage for task in ("text-base", "pretrain", "sft")]
    assert stages == ["text", "pretrain", "sft"]
    page = (folder / "report" / "report.html").read_text()
    assert load(uris["report"], ReportPage).page.num_bytes == len(page.encode())
    assert not re.search(r"""(src|href)=["']https?://""", page)

    again = run_chain(warm_python, tmp_path)
    assert again.returncode == 0 and "11 of 12 steps cached" in again.stdout, again.stdout[-3000:]
    assert {path.parts[-3]: path.read_text() for path in folder.glob("*/out/manifest")}["deploy"] == uris["deploy"]

    with server(warm_python, tmp_path / "server.txt", "--model", uris["deploy"], "--name", "tiny") as (url, process):
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok", "model": "tiny"}
        assert answer_to_example(url) == deployment.sample["answer"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    log = (tmp_path / "server.txt").read_text()
    assert "Traceback" not in log and "stopped" in log


def answer_to_example(url: str) -> str:
    """The answer to the question that the chat page shows as an example."""
    (example,) = httpx.get(f"{url}/examples", trust_env=False).json()
    content = [{"type": "image_url", "image_url": {"url": example["image"]}}, {"type": "text", "text": example["question"]}]
    reply = httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}, trust_env=False)
    return reply.json()["choices"][0]["message"]["content"]
