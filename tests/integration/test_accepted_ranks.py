"""The step acceptance with two ranks on this machine, which communicate by gloo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm1.errors import Outcome
from mm1.store.local import LocalStore
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration


def test_slow_nodes_fail_the_step_after_the_report(tmp_path: Path, warm_python: WarmPython) -> None:
    sizes = ("--processes", "2", "--reduce-mb", "1", "--store-mb", "1", "--streams", "2", "--images-s", "0.02")
    paths = {"--store": "store", "--work": "work", "--artifact.metrics.json": "m.json", "--artifact.report.html": "r.html"}
    options = [item for option, name in paths.items() for item in (option, str(tmp_path / name))]
    with (tmp_path / "log.txt").open("w") as log:
        arguments = (*sizes, "--min-all-reduce-gb-s", "1e6", *options)
        code = warm_python.start("mm1_components.acceptance", *arguments, stdout=log, stderr=log).wait(120)
    text = (tmp_path / "log.txt").read_text()
    assert code == Outcome.CONFIGURATION, text[-3000:]
    assert "min_all_reduce_gb_s: expected at least 1e+06 GB/s on" in text
    metrics = json.loads((tmp_path / "m.json").read_text())
    (node,) = metrics["nodes"]
    assert node["ranks"] == 2 and all(value > 0 for name, value in node.items() if name != "host")
    assert {"all_reduce_gb_s", "node_all_reduce_gb_s", "read_streams_mb_s", "images_s"} <= set(node)
    assert metrics["failures"][0] in (tmp_path / "r.html").read_text().replace("&#39;", "'")
    assert list(LocalStore(tmp_path / "store").list("launch/")) == []
