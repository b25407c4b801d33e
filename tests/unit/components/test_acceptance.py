"""The step acceptance: thresholds, the job that a JobSet gets, and what a rank measures besides all-reduce."""

from __future__ import annotations

import json
from pathlib import Path

from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train import probe
from mm1.train.config import Probe, TrainJob
from mm1_components.acceptance import Inputs, below
from mm1_components.ranks.jobset.jobset import Gang, manifest
from mm1_components.ranks.launcher import Layout
from tests.support.gangs import LAUNCHER

NODES = ({"host": "a", "ranks": 8.0, "all_reduce_gb_s": 180.0}, {"host": "b", "ranks": 8.0, "all_reduce_gb_s": 12.0})


def test_only_nodes_below_a_threshold_are_named() -> None:
    assert below(Inputs(nodes=2), NODES) == []
    (failure,) = below(Inputs(nodes=2, min_all_reduce_gb_s=100), NODES)
    assert failure.startswith("min_all_reduce_gb_s: expected at least 100 GB/s on b, got 12 (all-reduce of all ranks")
    assert "NCCL plugin" in failure


def test_a_threshold_needs_a_measurement() -> None:
    (failure,) = below(Inputs(min_images_s=1), NODES[:1])
    assert "was not measured on a (8 rank(s)); set min_images_s=0" in failure


def test_ranks_of_a_node_become_one_row() -> None:
    ranks = [(1, {"host": "b", "images_s": 10.0}), (0, {"host": "a", "write_mb_s": 5.0, "images_s": 30.0})]
    ranks += [(0, {"host": "a", "images_s": 50.0})]
    assert probe.by_node(ranks) == (
        {"host": "a", "write_mb_s": 5.0, "images_s": 40.0, "ranks": 2.0},
        {"host": "b", "images_s": 10.0, "ranks": 1.0},
    )


def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    speeds = probe.storage(store, "launch/k/probe-0", size_mb=1, streams=2)
    assert set(speeds) == {"write_mb_s", "write_streams_mb_s", "read_mb_s", "read_streams_mb_s"}
    assert all(speed > 0 for speed in speeds.values()) and list(store.list("")) == []


def test_images_are_decoded() -> None:
    assert probe.decoding(0.01) > 1


def test_a_jobset_gets_the_probe() -> None:
    job = TrainJob(config=registry.get("mm1_tiny"), data="", store="s3://b/p", key="k", folder="", probe=Probe(streams=7))
    body = manifest(Gang(run="r", task="acceptance", key="k", attempt=0), job, Layout(nodes=2), LAUNCHER)
    pod = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (text,) = [word.removeprefix("--job=") for word in pod["containers"][0]["args"] if word.startswith("--job=")]
    assert json.loads(text)["probe"]["streams"] == 7
