"""The pods of compiled workflows, training and the chart find nodes among the pools of the table, on both clouds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.recipes import registry
from mm1.train.config import TrainJob
from mm1_components.ranks.jobset.jobset import Gang, manifest
from mm1_components.ranks.launcher import Launcher, Layout
from mm1_components.wrapper.nodes import Cloud
from mm1_components.wrapper.pools import POOL_LABEL
from tests.support.helm import BINARIES, CHART, Helm, named
from tests.support.scheduling import CLOUDS, MACHINES, TABLE, offered, pools_for

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows/compiled/argo").glob("*.yaml"))
FLAG = "--launcher="


@cache
def templates(path: Path) -> list[dict[str, Any]]:
    loaded = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [body for body in loaded["spec"]["templates"] if "container" in body]


def step_pod(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"containers": [body["container"]]}


def rank_pods(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of the JobSets that a supervisor makes: one for each pool that the step may select."""
    for word in body["container"]["args"]:
        if word.startswith(FLAG):
            launcher = Launcher.model_validate(json.loads(word.removeprefix(FLAG)))
            job = TrainJob(config=registry.get("mm1_tiny"), data="d", store="s3://b/p", key="k", folder="")
            for pool in launcher.pools:
                gang = Gang(run="r", task="t", key="k", attempt=0)
                jobset = manifest(gang, job, Layout(nodes=2, pool=pool), launcher)
                yield pool, jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_has_a_pool(path: Path, cloud: Cloud) -> None:
    for body in templates(path):
        assert body["metadata"]["labels"][POOL_LABEL] in pools_for(step_pod(body), cloud)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_training_has_a_pool(path: Path, cloud: Cloud) -> None:
    for body in templates(path):
        for pool, spec in rank_pods(body):
            assert pools_for(spec, cloud) == [pool]


def serving_pod(values: dict[str, Any]) -> dict[str, Any]:
    """The pod of the chart's Deployment, rendered by Helm."""
    binary = next((name for name in BINARIES if shutil.which(name)), None)
    if not binary:
        pytest.skip("helm is not installed")
    serving = {"enabled": True, "requireSignature": False, "model": "s3://b/manifests/" + "0" * 64 + ".json"} | values
    objects = Helm(binary, CHART, dict(os.environ)).objects({"serving": serving})
    return dict(named(objects, "Deployment", "mm1-serve")["spec"]["template"]["spec"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_served_model_has_a_pool(cloud: Cloud) -> None:
    assert pools_for(serving_pod({}), cloud) == ["cpu"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_model_served_on_a_gpu_has_a_pool(cloud: Cloud) -> None:
    pool = TABLE.pools["serve-l40s"]
    values = {"nodeSelector": pool.labels, "tolerations": pool.tolerations, "resources": pool.resources}
    assert pools_for(serving_pod(values), cloud) == ["serve-l40s"]
    with pytest.raises(AssertionError, match=r"serve-l40s: taint mm1\.dev/pool=serve-l40s is not tolerated"):
        pools_for(serving_pod(values | {"tolerations": []}), cloud)


def chart_pod() -> dict[str, Any]:
    """What the chart's values say about the pod of the served model, where Helm is not installed."""
    serving = yaml.safe_load((ROOT / "charts/mm1/values.yaml").read_text())["serving"]
    folders = [{"name": "tmp", "emptyDir": {"sizeLimit": serving["scratch"]}}]
    placement = {name: serving[name] for name in ("nodeSelector", "tolerations")}
    return placement | {"containers": [{"resources": serving["resources"]}], "volumes": folders}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_values_of_the_served_model_have_a_pool(cloud: Cloud) -> None:
    assert pools_for(chart_pod(), cloud) == ["cpu"]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tolerations": []}, "taint mm1.dev/pool=train-h100 is not tolerated"),
        ({"tolerations": [{"key": "mm1.dev/pool", "value": "train", "effect": "NoSchedule"}]}, "is not tolerated"),
        ({"tolerations": [{"key": "mm1.dev/pool", "operator": "Exists", "effect": "NoExecute"}]}, "is not tolerated"),
        ({"nodeSelector": {"mm1.dev/pool": "train-h200"}}, "no label mm1.dev/pool=train-h200"),
        ({"nodeSelector": {"mm1.dev/pool": "train-h100", "rack": "a"}}, "train-h100: no label rack=a"),
        ({"resourceClaims": [{"name": "gpus"}]}, "no devices by DRA"),
    ],
)
def test_a_pod_without_a_pool_is_refused_with_the_reason(cloud: Cloud, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        pools_for(rank_pod() | change, cloud)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("resource", "amount", "reason"),
    [
        ("nvidia.com/gpu", "16", "nvidia.com/gpu: requests 16, offers 8"),
        ("memory", "1900Gi", "memory: requests"),
        ("cpu", "208", "cpu: requests 208"),
        ("ephemeral-storage", "40Ti", "ephemeral-storage: requests"),
        ("amd.com/gpu", "8", "no amd.com/gpu"),
        ("vpc.amazonaws.com/efa", "64", "vpc.amazonaws.com/efa"),
    ],
)
def test_a_pod_that_requests_too_much_is_refused(cloud: Cloud, resource: str, amount: str, reason: str) -> None:
    spec = deepcopy(rank_pod())
    spec["containers"][0]["resources"]["requests"][resource] = amount
    with pytest.raises(AssertionError, match=reason):
        pools_for(spec, cloud)


def test_efa_is_offered_on_aws_alone() -> None:
    spec = deepcopy(rank_pod())
    spec["containers"][0]["resources"]["requests"]["vpc.amazonaws.com/efa"] = "32"
    assert pools_for(spec, "aws") == ["train-h100"]
    with pytest.raises(AssertionError, match=r"train-h100: no vpc\.amazonaws\.com/efa"):
        pools_for(spec, "gcp")


def test_gpus_by_dra_are_not_offered_to_pods_that_request_the_resource() -> None:
    pool = TABLE.pools["train-h100"]
    assert offered(pool, "aws")["nvidia.com/gpu"] == MACHINES["p5.48xlarge"].gpus == 8
    nodes = pool.nodes["aws"].model_copy(update={"devices": "dra"})
    assert "nvidia.com/gpu" not in offered(pool.model_copy(update={"nodes": {"aws": nodes}}), "aws")


def rank_pod() -> dict[str, Any]:
    path = next(path for path in WORKFLOWS if path.stem == "pretrain")
    return next(spec for body in templates(path) for pool, spec in rank_pods(body) if pool == "train-h100")
