"""The retraining that decides, on the finished toy run whose model is served: nothing new, new data, and nothing new again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mm1.lineage.records import read_run
from mm1.lineage.serving import Change, current, record
from mm1.manifests import Checkpoint, Deployment, RawData, load, split_uri
from mm1.store.open import open_store
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part
from mm1_components.wrapper.raw_data import SOURCES
from tests.support.documentation import ROOT
from tests.support.toy_chain import FEW, RUN
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
GIVEN = [part for part in SOURCES if part in PARTS]


class Site:
    """A copy of the toy run, with its last model served."""

    def __init__(self, folder: Path, python: WarmPython) -> None:
        self.folder, self.python = folder, python
        self.store = open_store(str(folder / "runs" / "store"))
        self.pretrained = split_uri((folder / "runs" / RUN / "pretrain" / "out" / "manifest").read_text())[1]
        served = split_uri((folder / "runs" / RUN / "deploy" / "out" / "manifest").read_text())[1]
        change = Change(action="promoted", deployment=served, time=datetime.now(UTC), by=RUN, reason="by hand")
        record(self.store, "mm1", change)
        self.served = served

    def retrain(self, run: str) -> dict[str, Any]:
        """Run the pipeline; the outputs of each task, and what it printed last."""
        given = {part: str(self.folder / "world" / part) for part in (*GIVEN, "benchmarks")}
        given |= {"sources": " ".join(part for part in GIVEN if part != "instructions"), "preset": "toy", "items": "8"}
        given |= {"overrides": FEW, "sft_overrides": FEW, "tasks": "captions@0", "rules": "captions/0/content_f1>=0"}
        words = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
        command = ["run", str(ROOT / "workflows" / "retrain.py"), "--run", run, *words]
        done = self.python.run("mm1_workflows.cli", *command, cwd=self.folder, timeout=400)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        self.said = done.stdout
        return {task: entry.outputs for task, entry in read_run(self.store, run).own.items()}


def test_it_waits_trains_on_new_data_and_waits_again(toy_run, tmp_path, warm_python):
    site = Site(Path(shutil.copytree(toy_run, tmp_path / "site", symlinks=True)), warm_python)

    tasks = site.retrain("first")
    assert set(tasks) == {"ingest", "decide", "report"}
    assert "decide: wait: nothing new: 0 new samples in 0 shards" in site.said
    assert "since the mixture" in tasks["decide"]["reason"]
    assert tasks["decide"]["init"].endswith(f"{site.pretrained}.json")
    assert tasks["decide"]["serving"].endswith(f"{site.served}.json")
    origin = read_run(site.store, RUN).tasks["ingest"].manifest
    assert load(tasks["ingest"]["manifest"], RawData).tokenizer == load(origin, RawData, site.store).tokenizer

    more = write_part("captions", tmp_path / "more", WorldConfig.small(seed=1))
    for path in sorted(more.glob("*.tar")):
        shutil.copy(path, site.folder / "world" / "captions" / f"9{path.name}")
    tasks = site.retrain("second")
    assert tasks["decide"]["decision"] == "retrain" and "reached: min_share=0.05" in tasks["decide"]["reason"]
    checkpoint = load(tasks["pretrain"]["manifest"], Checkpoint)
    assert checkpoint.parents[1] == site.pretrained and checkpoint.step == 2
    assert tasks["gate"]["decision"] == "pass" and load(tasks["deploy"]["manifest"], Deployment).deployed
    assert tasks["rollout"]["promoted"] is True
    served = current(site.store, "mm1")
    assert (served.by, served.before) == ("run second", site.served)
    assert tasks["deploy"]["manifest"].endswith(f"{served.deployment}.json")
    assert read_run(site.store, "second").tasks["pretrain"].facts["device_hours"] > 0

    tasks = site.retrain("third")
    assert tasks["decide"]["decision"] == "wait" and "since the retraining of run second" in tasks["decide"]["reason"]
    assert tasks["decide"]["serving"].endswith(f"{served.deployment}.json")
