"""The table of node pools and what is compiled from it: every selector and toleration names one of its pools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1_components.ranks.launcher import Launcher
from mm1_components.wrapper.pools import POOL_LABEL, Pool
from mm1_workflows.authoring import profiles

ROOT = Path(__file__).parents[2]
POOLS = {name: Pool.model_validate(value) for name, value in profiles.pools_table().items()}
ARGO = sorted([*ROOT.glob("workflows/compiled/argo/*.yaml"), *ROOT.glob("charts/mm1/files/default/*.yaml")])
KUBEFLOW = sorted(ROOT.glob("workflows/compiled/kubeflow/*.yaml"))
CLOUDS = {"aws", "gcp"}


def templates(path: Path) -> Iterator[dict[str, Any]]:
    """The container templates of a compiled file."""
    return (body for body in yaml.safe_load(path.read_text())["spec"]["templates"] if "container" in body)


def wanted(pool: Pool) -> list[tuple[str, str, str, str]]:
    """Tolerations of a pool, in an order of their own."""
    return sorted((one["key"], one["operator"], one["value"], one["effect"]) for one in pool.tolerations)


@pytest.mark.parametrize("path", ARGO, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_argo_pods_are_placed_on_pools_of_the_table(path: Path) -> None:
    for body in templates(path):
        pool = POOLS[body["metadata"]["labels"][POOL_LABEL]]
        assert body.get("nodeSelector", {}) == pool.labels
        given = [(one["key"], one["operator"], one["value"], one["effect"]) for one in body.get("tolerations", [])]
        assert sorted(given) == wanted(pool)
        assert body["container"]["resources"] == pool.resources
        shm = next(volume for volume in body["volumes"] if volume["name"] == "shm")["emptyDir"]
        assert shm == {"medium": "Memory", "sizeLimit": pool.shared_memory}


@pytest.mark.parametrize("path", ARGO, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_ranks_are_placed_on_pools_of_the_table(path: Path) -> None:
    texts = [
        word.removeprefix("--launcher=")
        for body in templates(path)
        for word in body["container"]["args"]
        if "--launcher=" in word
    ]
    assert bool(texts) == (path.stem in ("ablate", "acceptance", "continual", "encoder", "full", "pretrain", "retrain", "sft"))
    for text in texts:
        launcher = Launcher.model_validate(json.loads(text))
        assert launcher.pool in launcher.pools
        for name, pool in launcher.pools.items():
            assert pool == POOLS[name].model_copy(update={"nodes": {}})


@pytest.mark.parametrize("path", KUBEFLOW, ids=lambda path: path.stem)
def test_kubeflow_pods_are_placed_on_pools_of_the_table(path: Path) -> None:
    platform = next(document for document in yaml.safe_load_all(path.read_text()) if "platforms" in document)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    placed = [executor.get("nodeSelector", {}).get("labels", {}) for executor in executors.values()]
    assert all(labels == {} or labels in [pool.labels for pool in POOLS.values()] for labels in placed)
    for executor in executors.values():
        for toleration in executor.get("tolerations", []):
            assert toleration["value"] in POOLS and toleration["key"] == POOL_LABEL


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_says_what_infrastructure_needs_to_make_it(name: str) -> None:
    pool = POOLS[name]
    assert set(pool.nodes) == CLOUDS
    assert bool(pool.gpu) == bool(pool.gpus) == bool(pool.taints) == bool(pool.labels), "nodes with GPUs keep other pods off"
    assert all(taint.value == name == pool.labels[taint.key] for taint in pool.taints)
    assert pool.image in profiles.default().images


def test_steps_are_placed_by_kind_and_a_site_may_place_them_elsewhere() -> None:
    assert {profiles.default().placed(kind) for kind in ("cpu", "train", "eval", "serve")} == set(POOLS)
    test = profiles.read("test")
    assert test.placed("train") == "test-train" and test.pool("test-train").gpus == 1
