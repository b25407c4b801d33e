"""What a long training has to live through on a cluster, provoked on the real one."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mm1.manifests import Checkpoint, load
from mm1.store.open import open_store
from tests.support.cluster import NODE_NAME, TRAIN, Cluster, Mixtures

STEPS = 160
EVERY = 10
LONG = f"train.steps={STEPS} train.global_batch=8 train.micro_batch=4 train.checkpoint_every={EVERY} log.progress_every_s=0.2"


class Run:
    """A training on the cluster, looked at from outside."""

    def __init__(self, cluster: Cluster, *parameters: str, profile: str = "") -> None:
        self.cluster = cluster
        self.name = cluster.submit(TRAIN, *parameters, profile=profile)
        self.selector = f"mm1.dev/run={self.name}"

    def supervisor(self) -> dict[str, Any]:
        """The newest supervisor pod that is not being deleted."""
        pods = self.cluster.items("pods", f"workflows.argoproj.io/workflow={self.name}")
        live = [pod for pod in pods if "pretrain" in pod["metadata"]["annotations"][NODE_NAME]]
        live = [pod for pod in live if "deletionTimestamp" not in pod["metadata"]]
        return max(live, key=lambda pod: pod["metadata"]["creationTimestamp"], default={})

    def ranks(self) -> list[dict[str, Any]]:
        """The ranks' pods that are not being deleted."""
        return [pod for pod in self.cluster.items("pods", self.selector) if "deletionTimestamp" not in pod["metadata"]]

    def jobset(self) -> dict[str, Any]:
        """The JobSet."""
        return next(iter(self.cluster.items("jobsets", self.selector)), {})

    def checkpoint_step(self) -> int:
        """Step of the newest checkpoint in the store, 0 without one."""
        store = open_store(self.cluster.store)
        key = self.jobset()["metadata"]["annotations"]["mm1.dev/key"]
        pointer = store.read_json(f"resume/{key}.json")
        if not pointer:
            return 0
        return load(f"{store.uri}/manifests/{pointer['checkpoints'][0]}.json", Checkpoint).step

    def wait_for_step(self, step: int, seconds: float = 300) -> None:
        """Until a checkpoint of that step or later is there."""
        self.cluster.wait("the JobSet", self.jobset, seconds)
        self.cluster.wait(f"a checkpoint of step {step}", lambda: self.checkpoint_step() >= step, seconds)

    def wait_for_ranks(self, uids: set[str], seconds: float = 300) -> None:
        """Until all ranks run in pods that are not among these."""

        def others_run() -> bool:
            pods = self.ranks()
            running = [pod for pod in pods if pod["status"]["phase"] == "Running" and pod["metadata"]["uid"] not in uids]
            return len(running) == 2

        self.cluster.wait("new ranks", others_run, seconds)


def uids(pods: list[dict[str, Any]]) -> set[str]:
    """Their identities."""
    return {pod["metadata"]["uid"] for pod in pods}


def counted(jobset: dict[str, Any]) -> int:
    """Restarts that count towards the JobSet's limit."""
    return int(jobset["status"].get("restartsCountTowardsMax", 0))


def controller(cluster: Cluster) -> None:
    """Restart Argo's workflow controller."""
    cluster.run("kubectl", "--namespace", "argo", "delete", "pod", "--selector", "app=workflow-controller", "--wait=false")


def test_a_run_lives_through_all_of_it(cluster: Cluster, mixtures: Mixtures) -> None:
    # many steps: the training of a fast machine must not end before the last fault
    run = Run(cluster, f"data={mixtures.text}", f"overrides={LONG} train.steps={3 * STEPS}", "nodes=2", "seed=1")
    run.wait_for_step(EVERY)

    # a rank's pod is lost without warning: all start again from the last checkpoint
    former, reached = uids(run.ranks()), run.checkpoint_step()
    victim = run.ranks()[1]["metadata"]["name"]
    cluster.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
    run.wait_for_ranks(former)
    assert int(run.jobset()["status"]["restarts"]) == 1
    assert run.checkpoint_step() >= reached
    run.wait_for_step(reached + 2 * EVERY)

    # the supervisor is lost: the next one adopts the JobSet, the ranks notice nothing
    former, supervisor, jobset = uids(run.ranks()), run.supervisor(), run.jobset()
    cluster.kubectl("delete", "pod", supervisor["metadata"]["name"], "--wait=false")
    cluster.wait("another supervisor", lambda: uids([run.supervisor()] if run.supervisor() else []) - uids([supervisor]))
    cluster.wait("its adoption", lambda: f"{jobset['metadata']['name']} adopted" in cluster.log(run.name, "pretrain"))
    assert uids(run.ranks()) == former and run.jobset()["metadata"]["uid"] == jobset["metadata"]["uid"]

    # the workflow controller restarts
    controller(cluster)

    # the node is drained: the ranks save, and go on when there is a node again; it does not count as a restart
    (node,) = {pod["spec"]["nodeName"] for pod in run.ranks()}
    reached, before = run.checkpoint_step(), counted(run.jobset())
    cluster.run("kubectl", "cordon", node)
    try:
        for pod in run.ranks():
            evict(cluster, pod["metadata"]["name"])
        cluster.wait("the restart", lambda: int(run.jobset()["status"]["restarts"]) == 2)
    finally:
        cluster.run("kubectl", "uncordon", node)
    assert counted(run.jobset()) == before
    run.wait_for_ranks(former)
    assert run.checkpoint_step() >= reached

    done = cluster.mm1("watch", run.name, "-n", cluster.namespace, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = open_store(cluster.store).read_json(f"runs/{run.name}/pretrain.json") or {}
    checkpoint = load(record["outputs"]["manifest"], Checkpoint)
    assert checkpoint.step == 3 * STEPS and checkpoint.sequences_seen == 3 * STEPS * 8


def evict(cluster: Cluster, pod: str) -> None:
    """What a drain does to a pod."""
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    body = cluster.object("policy/v1", "Eviction", pod)
    cluster.run("kubectl", "create", "--raw", path, "--filename", "-", input=json.dumps(body))


def test_nothing_is_left_of_a_run_that_a_person_stops(cluster: Cluster, mixtures: Mixtures) -> None:
    secrets = {item["metadata"]["name"] for item in cluster.items("secrets")}
    run = Run(cluster, f"data={mixtures.text}", f"overrides={LONG}", "nodes=2", "seed=2")
    cluster.wait("running ranks", lambda: [pod for pod in run.ranks() if pod["status"]["phase"] == "Running"])
    jobset = run.jobset()["metadata"]["name"]
    assert jobset in {item["metadata"]["name"] for item in cluster.items("services")}
    done = cluster.mm1("stop", run.name, "-n", cluster.namespace, timeout=240)
    assert done.returncode == 0
    assert not cluster.items("jobsets", run.selector) and not cluster.items("pods", run.selector)
    assert not cluster.items("pods", f"workflows.argoproj.io/workflow={run.name}")
    assert jobset not in {item["metadata"]["name"] for item in cluster.items("services")}
    assert {item["metadata"]["name"] for item in cluster.items("secrets")} == secrets
    assert cluster.mm1("watch", run.name, "-n", cluster.namespace, check=False).returncode == 87


def test_a_rank_killed_for_want_of_memory_is_tried_with_less_and_then_named(
    cluster: Cluster, mixtures: Mixtures, tmp_path: Path
) -> None:
    def little(content: dict[str, Any]) -> None:
        content["pools"]["test-train"]["memory"] = "900Mi"

    profile = cluster.variant(tmp_path / "little.yaml", little, inject=True, MM1_TEST_OUTCOME="80", MM1_TEST_EAT_MIB="1200")
    size = "train.steps=2 train.global_batch=4 train.micro_batch=2"
    run = Run(cluster, f"data={mixtures.text}", f"overrides={size}", "seed=3", profile=profile)
    done = cluster.mm1("watch", run.name, "-n", cluster.namespace, check=False)
    assert done.returncode == 83, done.stdout[-2000:] + done.stderr[-2000:]
    record = open_store(cluster.store).read_json(f"runs/{run.name}/pretrain.json") or {}
    assert "memory" in record["message"] and "micro_batch 2 -> 1" in record["facts"]["relaunched"][0]


def test_a_missing_image_ends_the_run_with_its_reason(cluster: Cluster, mixtures: Mixtures, tmp_path: Path) -> None:
    def nowhere(content: dict[str, Any]) -> None:
        content["images"]["trainer"] = "registry.example.org/mm1/none:1"

    profile = cluster.variant(tmp_path / "nowhere.yaml", nowhere)
    run = Run(cluster, f"data={mixtures.text}", "overrides=train.steps=2", "seed=4", profile=profile)
    done = cluster.mm1("watch", run.name, "-n", cluster.namespace, check=False)
    assert done.returncode == 80, done.stdout[-2000:] + done.stderr[-2000:]
    record = open_store(cluster.store).read_json(f"runs/{run.name}/pretrain.json") or {}
    assert record["seconds"] < 120
    assert re.search("(ErrImagePull|ImagePullBackOff).*registry.example.org", record["message"])


def test_a_store_that_is_away_for_half_a_minute_is_ridden_through(cluster: Cluster, mixtures: Mixtures) -> None:
    if not cluster.tool:
        pytest.skip("only the cluster that these tests start lets its store be stopped")
    run = Run(cluster, f"data={mixtures.text}", f"overrides={LONG}", "seed=5")
    run.wait_for_step(EVERY)
    former = uids(run.ranks())
    status = cluster.run(*cluster.tool, "status").stdout
    pid = re.search(r"minio\s+pid (\d+)", status)
    assert pid, status
    subprocess.run(["kill", pid[1]], check=True)
    time.sleep(30)
    cluster.run(*cluster.tool, "up")
    done = cluster.mm1("watch", run.name, "-n", cluster.namespace, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {pod["metadata"]["uid"] for pod in cluster.items("pods", run.selector)} <= former, "no rank had to be started again"
