"""Training on JobSets: one node and two give the same losses, dense and with experts; a gang waits for its whole quota."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mm1.store.base import BlobRef
from mm1.store.open import open_store
from tests.support.cluster import TRAIN, Cluster, Mixtures

SIZE = "train.steps=6 train.global_batch=8 train.micro_batch=4 schedule.warmup_steps=1 train.checkpoint_every=3"


def losses(cluster: Cluster, run: str) -> list[float]:
    """The loss of each step of a finished training."""
    store = open_store(cluster.store)
    (record,) = [record for key in store.list(f"runs/{run}/") if (record := store.read_json(key))]
    metrics = json.loads(store.get_bytes(BlobRef(**record["artifacts"]["metrics.json"])))
    return [metrics["final_losses"]["all"]]


@pytest.mark.parametrize(
    ("recipe", "on_two"),
    [
        pytest.param("mm1_tiny", "", id="dense"),
        # One node has all experts, on two each has half of them.
        pytest.param("mm1_tiny_moe", "train.zero_stage=1 train.expert_parallel=2", id="experts-shared"),
    ],
)
def test_two_nodes_train_as_one_does(cluster: Cluster, mixtures: Mixtures, recipe: str, on_two: str) -> None:
    size = f"{SIZE} optim.name=adamw" if on_two else SIZE
    found = {}
    for nodes in (1, 2):
        overrides = f"{size} {on_two}".strip() if nodes == 2 else size
        name = cluster.submit(TRAIN, f"data={mixtures.mixed}", f"recipe={recipe}", f"overrides={overrides}", f"nodes={nodes}")
        done = cluster.mm1("watch", name, "-n", cluster.namespace, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        found[nodes] = losses(cluster, name)
    assert found[2] == pytest.approx(found[1], rel=1e-3)


def messages(log: str) -> list[str]:
    """Messages of a log of JSON lines, without those of Argo's executor."""
    return [json.loads(line).get("message", "") for line in log.splitlines() if line and "argo=true" not in line]


def test_a_pool_without_gpus_trains_on_cpus_and_logs_json(cluster: Cluster, mixtures: Mixtures, tmp_path: Path) -> None:
    def without_gpus(content: dict[str, Any]) -> None:
        content["pools"]["test-train"]["gpus"] = 0  # as the pool of the profile `smoke`
        content["log_format"] = "json"

    profile = cluster.variant(tmp_path / "cpu.yaml", without_gpus)
    size = "train.steps=2 train.global_batch=4 train.micro_batch=2"
    name = cluster.submit(TRAIN, f"data={mixtures.text}", f"overrides={size}", "seed=11", profile=profile)
    done = cluster.mm1("watch", name, "-n", cluster.namespace, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (pod,) = cluster.items("pods", f"mm1.dev/run={name}")
    assert "nvidia.com/gpu" not in json.dumps(pod["spec"]["containers"])
    assert any(message.startswith("step 2 of 2: loss") for message in messages(cluster.log(name, "pretrain")))
    assert messages(cluster.kubectl("logs", pod["metadata"]["name"]))


SCRAPE = """
import socket, urllib.request
print(urllib.request.urlopen(f"http://{socket.gethostbyname(socket.gethostname())}:9464/metrics").read().decode())
"""


def state(cluster: Cluster, run: str) -> str:
    """The state of a training in the metrics of its supervisor."""
    selector = f"mm1.dev/role=supervisor,workflows.argoproj.io/workflow={run}"
    (pod,) = cluster.items("pods", selector)
    text = cluster.kubectl("exec", pod["metadata"]["name"], "--container=main", "--", "python3", "-c", SCRAPE)
    (sample,) = [line for line in text.splitlines() if line.startswith("mm1_training_state{") and line.endswith(" 1.0")]
    assert f'run="{run}"' in sample
    return re.search(r'state="(\w+)"', sample)[1]


def test_a_gang_waits_for_its_whole_quota_and_says_what_is_missing(cluster: Cluster, mixtures: Mixtures) -> None:
    cluster.quota(gpus=1)
    try:
        name = cluster.submit(TRAIN, f"data={mixtures.text}", f"overrides={SIZE}", "nodes=2", "seed=7")
        selector = f"mm1.dev/run={name}"
        cluster.wait("the JobSet", lambda: cluster.items("jobsets", selector))
        reason = re.compile("waiting for quota in queue mm1: .*nvidia.com/gpu.* maximum capacity")
        cluster.wait("the reason in the supervisor's log", lambda: reason.search(cluster.log(name, "pretrain")))
        assert not cluster.items("pods", selector), "no node of the gang may start alone"
        assert state(cluster, name) == "queued"
        cluster.quota(gpus=8)
        assert cluster.finished(name)["status"]["phase"] == "Succeeded"
    finally:
        cluster.quota(gpus=8)
