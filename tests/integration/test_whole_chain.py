"""The pipeline that `make run` runs, from raw files to a model that answers, on a small world; then again, cached."""

from __future__ import annotations

import re
import signal

import httpx
import pytest

from mm1.lineage.graph import ancestors
from mm1.manifests import Checkpoint, Deployment, EvalReport, ReportPage, load, split_uri
from mm1.store.open import open_store
from tests.support.serving import server
from tests.support.toy_chain import RUN, run_chain

pytestmark = pytest.mark.integration


def test_raw_files_become_a_served_model_and_a_report(toy_run, tmp_path, warm_python):
    folder = toy_run / "runs" / RUN
    store = open_store(str(toy_run / "runs" / "store"))
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

    again = run_chain(warm_python, toy_run)
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
