"""Who cleans up: whatever ends a run, no rank is left on the cluster; whatever ends only a supervisor, its ranks go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mm1.store.open import open_store
from tests.cluster.test_cluster_faults import Run, evict, uids
from tests.support.cluster import Cluster, Mixtures

ENDLESS = "train.steps=100000 train.global_batch=4 train.micro_batch=4 train.checkpoint_every=20 log.progress_every_s=0.2"
LIMIT_S = 100
LEASE_S = 60


def started(run: Run) -> None:
    """Wait until its ranks run."""
    running = lambda: [pod for pod in run.ranks() if pod["status"]["phase"] == "Running"]  # noqa: E731
    run.cluster.wait("running ranks", running)


def test_a_run_that_reaches_its_time_limit_leaves_nothing(cluster: Cluster, mixtures: Mixtures, tmp_path: Path) -> None:
    profile = cluster.variant(tmp_path / "short.yaml", lambda content: content.update(run_seconds=LIMIT_S))
    run = Run(cluster, f"data={mixtures.text}", f"overrides={ENDLESS}", "seed=21", profile=profile)
    started(run)
    workflow = cluster.finished(run.name, LIMIT_S + 120)
    assert workflow["status"]["phase"] == "Failed"
    cluster.wait("the end of the ranks", lambda: not cluster.items("jobsets", run.selector), 60)
    cluster.wait("the end of their pods", lambda: not cluster.items("pods", run.selector), 60)
    cluster.wait("its record", lambda: run_record(cluster, run).get("outcome") == 87, 60)


def test_kubeflows_terminate_leaves_nothing(cluster: Cluster, mixtures: Mixtures) -> None:
    run = Run(cluster, f"data={mixtures.text}", f"overrides={ENDLESS}", "seed=22")
    started(run)
    assert "activeDeadlineSeconds" not in run.cluster.workflow(run.name)["spec"], "no limit by default"
    patch = json.dumps({"spec": {"activeDeadlineSeconds": 0}})
    cluster.kubectl("patch", "workflow", run.name, "--type=merge", f"--patch={patch}")
    cluster.finished(run.name, 240)
    cluster.wait("the end of the ranks", lambda: not cluster.items("jobsets", run.selector), 60)
    shown = cluster.mm1("runs", "--cluster", "-n", cluster.namespace).stdout
    assert next(line for line in shown.splitlines() if run.name in line).split()[1] == "stopped"


def test_a_supervisor_that_is_evicted_leaves_its_ranks_to_the_next_one(cluster: Cluster, mixtures: Mixtures) -> None:
    run = Run(cluster, f"data={mixtures.text}", f"overrides={ENDLESS}", "seed=23")
    started(run)
    ranks, supervisor, jobset = uids(run.ranks()), run.supervisor(), run.jobset()
    evict(cluster, supervisor["metadata"]["name"])
    cluster.wait("its adoption", lambda: f"{jobset['metadata']['name']} adopted" in cluster.log(run.name, "pretrain"))
    assert uids(run.ranks()) == ranks and run.jobset()["metadata"]["uid"] == jobset["metadata"]["uid"]
    cluster.mm1("stop", run.name, "-n", cluster.namespace, timeout=240)
    assert not cluster.items("jobsets", run.selector)


def test_ranks_without_a_supervisor_end_with_their_lease(cluster: Cluster, mixtures: Mixtures, tmp_path: Path) -> None:
    profile = cluster.variant(tmp_path / "lease.yaml", lambda content: content.update(lease_seconds=LEASE_S))
    run = Run(cluster, f"data={mixtures.text}", f"overrides={ENDLESS}", "seed=24", profile=profile)
    run.wait_for_step(20)
    (job,) = cluster.items("jobs", f"jobset.sigs.k8s.io/jobset-name={run.jobset()['metadata']['name']}")
    extended = lambda: deadline(cluster, job) > LEASE_S  # noqa: E731
    cluster.wait("an extended deadline", extended, LEASE_S)
    with without_permissions(cluster):
        workflow = cluster.finished(run.name, 120)
        assert workflow["status"]["phase"] == "Failed"
        cluster.wait("its record", lambda: run_record(cluster, run).get("outcome") == 80, 60)
        assert run.jobset(), "nobody may delete it"
        reached = run.checkpoint_step()
        failed = lambda: (run.jobset().get("status") or {}).get("terminalState") == "Failed"  # noqa: E731
        cluster.wait("the end of the lease", failed, 2 * LEASE_S)
        cluster.wait("the end of the pods", lambda: not run.ranks(), 60)
        assert run.checkpoint_step() > reached, "the ranks have saved"
        assert not (run.jobset()["status"].get("restarts") or 0)


def deadline(cluster: Cluster, job: dict[str, Any]) -> int:
    """The active deadline of a Job."""
    return int(cluster.get("job", job["metadata"]["name"])["spec"]["activeDeadlineSeconds"])


def run_record(cluster: Cluster, run: Run) -> dict[str, Any]:
    """The record of the training."""
    return open_store(cluster.store).read_json(f"runs/{run.name}/pretrain.json") or {}


@contextmanager
def without_permissions(cluster: Cluster) -> Iterator[None]:
    """The supervisors may only report to Argo."""
    role = cluster.get("role", "mm1-supervisor")
    patch = [rule for rule in role["rules"] if rule["apiGroups"] == ["argoproj.io"]]

    def set_rules(rules: list[dict[str, Any]]) -> None:
        cluster.kubectl("patch", "role", "mm1-supervisor", "--type=merge", f"--patch={json.dumps({'rules': rules})}")

    set_rules(patch)
    try:
        yield
    finally:
        set_rules(role["rules"])
