"""The JobSet of a training run as data: names, placement, security, what ends and what restarts it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.config import TrainJob
from mm1_components.ranks.jobset.jobset import Gang, manifest
from mm1_components.ranks.launcher import Launcher, Layout
from mm1_components.wrapper.pools import ClaimMount, Network, Pool, Taint

POOL = Pool(image="trainer", gpus=2, cpus=4, labels={"kind": "big"}, taints=(Taint(key="kind", value="big"),))
LAUNCHER = Launcher(
    pool="big",
    pools={"big": POOL},
    images={"trainer": "registry.example.org/trainer@sha256:0"},
    environment_secret="store",
    environment={"A": "1"},
    volumes=(ClaimMount(claim="raw", mount_path="/raw"),),
    queue="team",
    priority="high",
    grace_s=300,
)


def job() -> TrainJob:
    config = registry.get("mm1_tiny").model_copy()
    frozen = config.train.model_copy(update={"frozen": ("tower.$(NAME)$",)})
    return TrainJob(config=config.model_copy(update={"train": frozen}), data="d", store="s3://b/p", key="k", folder="")


def test_it_asks_for_all_nodes_at_once_and_says_where_each_finds_the_others() -> None:
    gang = Gang(run="mm1-pretrain-abc", task="pretrain", key="k", attempt=2, owner={"name": "w"})
    body = manifest(gang, job(), Layout(nodes=3), LAUNCHER)
    spec = body["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"], spec["backoffLimit"]) == (3, 3, "Indexed", 0)
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert body["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"
    assert body["metadata"]["ownerReferences"] == [{"name": "w"}]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    arguments = dict(word.removeprefix("--").split("=", 1) for word in container["args"])
    assert arguments["master"] == f"{gang.name}-node-0-0.{gang.name}:29500"
    assert (arguments["nodes"], arguments["processes"]) == ("3", "2")
    assert pod["nodeSelector"] == {"kind": "big"} and pod["tolerations"][0]["value"] == "big"
    assert container["resources"]["requests"] == container["resources"]["limits"] == {
        "cpu": "4", "memory": "2Gi", "nvidia.com/gpu": "2"
    }  # fmt: skip
    assert pod["terminationGracePeriodSeconds"] == 300 > int(arguments["grace-s"])


def test_its_pods_use_the_network_of_their_pool() -> None:
    network = Network(
        resources={"vpc.amazonaws.com/efa": "32"},
        annotations={"k8s.v1.cni.cncf.io/networks": "rdma-a, rdma-b"},
        environment={"FI_PROVIDER": "efa"},
    )
    pool = POOL.model_copy(update={"network": network, "taints": (*POOL.taints, Taint(key="nvidia.com/gpu"))})
    launcher = LAUNCHER.model_copy(update={"pools": {"big": pool}})
    # The launcher reaches the supervisor as JSON without defaults.
    launcher = Launcher.model_validate_json(launcher.model_dump_json(exclude_defaults=True))
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(), launcher)
    template = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert template["metadata"]["annotations"] == network.annotations
    (container,) = template["spec"]["containers"]
    for resources in container["resources"].values():
        assert resources["vpc.amazonaws.com/efa"] == "32" and resources["nvidia.com/gpu"] == "2"
    assert {"name": "FI_PROVIDER", "value": "efa"} in container["env"]
    assert template["spec"]["tolerations"] == [
        {"key": "kind", "operator": "Equal", "value": "big", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(), LAUNCHER)
    assert "annotations" not in body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"]


def test_its_pods_keep_the_restricted_standard_and_get_no_token() -> None:
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(), LAUNCHER)
    pod = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["runAsNonRoot"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == ["/tmp", "/dev/shm", "/raw"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "store", "optional": True}}]


def test_the_configuration_survives_the_way_through_kubernetes() -> None:
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(), LAUNCHER)
    arguments = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]["args"]
    text = next(word for word in arguments if word.startswith("--job=")).removeprefix("--job=")
    seen = re.sub(r"\$\$\(", "$(", text)  # what the kubelet makes of an escaped reference
    assert "$(NAME)" not in re.sub(r"\$\$\(", "", text)
    assert TrainJob.model_validate_json(seen) == job()


def test_rules_of_the_jobset_name_those_of_its_job() -> None:
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(), LAUNCHER)
    rules = {rule["name"]: rule for rule in body["spec"]["failurePolicy"]["rules"]}
    places = body["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    for code, name in [*((code, "final") for code in (80, 81, 82, 83, 85, 86, 88)), (87, "saved")]:
        place = next(i for i, rule in enumerate(places) if code in rule.get("onExitCodes", {}).get("values", []))
        message = f"Container main for pod ns/p failed with exit code {code} matching FailJob rule at index {place}"
        (pattern,) = rules[name]["onJobFailureMessagePatterns"]
        assert re.search(pattern, message)
    assert not any(code in rule.get("onExitCodes", {}).get("values", []) for rule in places for code in (1, 84, 137))
    assert rules["final"]["action"] == "FailJobSet"
    assert {rules[name]["action"] for name in ("saved", "disrupted")} == {"RestartJobSetAndIgnoreMaxRestarts"}


@given(st.text(max_size=80), st.text(min_size=1, max_size=80), st.integers(0, 99))
def test_any_task_has_a_name_that_pods_and_hosts_can_bear(run: str, task: str, attempt: int) -> None:
    gang = Gang(run=run, task=task, key="k", attempt=attempt)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", gang.name) and len(f"{gang.name}-node-0-1000") <= 63
    for value in gang.labels.values():
        assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value) and len(value) <= 63


def test_an_unknown_pool_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'bog' .*big"):
        manifest(Gang(run="r", task="t", key="k", attempt=0), job(), Layout(pool="bog"), LAUNCHER)
