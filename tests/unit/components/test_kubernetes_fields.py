"""Fields of profiles and pools are checked as the API server would check them, with the field's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.errors import ConfigurationError
from mm1_components.wrapper.kubernetes_fields import quantity
from mm1_workflows.authoring import profiles

POOL = "pools.cpu"
WRONG: list[tuple[str, Any, str]] = [
    ("pools.cpu.memory", "lots", "expected a quantity"),
    ("pools.cpu.memory", "2GiB", "expected a quantity"),
    ("pools.cpu.memory", "0Gi", "expected a quantity above 0"),
    ("pools.cpu.memory", "-2Gi", "expected a quantity"),
    ("pools.cpu.scratch", "10 Gi", "expected a quantity"),
    ("pools.cpu.shared_memory", "4Gi", "is part of memory"),
    ("pools.cpu.cpus", 0, "expected more than 0"),
    ("pools.cpu.gpus", -1, "expected at least 0"),
    ("pools.cpu.image", "cup", "no image 'cup'; did you mean 'cpu'"),
    ("pools.cpu.labels", {"a b": "x"}, "expected a label's key"),
    ("pools.cpu.labels", {"pool": "has spaces"}, "expected a label's value"),
    ("pools.cpu.labels", {"pool": "x" * 64}, "at most 63 characters"),
    (
        "pools.cpu.taints",
        [{"key": "pool", "value": "x", "effect": "NoPods"}],
        "'NoSchedule', 'PreferNoSchedule' or 'NoExecute'",
    ),
    ("pools.cpu.network.resources", {"vpc.amazonaws.com/efa": "four"}, "expected a quantity"),
    ("pools.cpu.network.environment", {"NCCL DEBUG": "INFO"}, "expected a name of an environment variable"),
    ("pools.cpu.network.annotations", {"a b": "x"}, "expected a label's key"),
    ("pools.cpu.network.kind", "rdma", "unknown field"),
    ("pools.cpu.memory", "٣Gi", "expected a quantity"),
    ("pools.cpu.memory", "1e400", "expected a quantity above 0"),
    ("images.cpu", "ghcr.é.io/x", "expected an image"),
    ("pools.cpu.memry", "2Gi", "unknown field; did you mean 'memory'"),
    ("stor", "s3://bucket", "unknown field; did you mean 'store'"),
    ("queue", "Team_A", "expected a name of lower-case letters"),
    ("accounts.step", "", "expected a name of lower-case letters"),
    ("environment_secret", "My Secret", "expected a name of lower-case letters"),
    ("environment", {"1ST": "x"}, "expected a name of an environment variable"),
    ("store", "gs://bucket", "expected s3://bucket/prefix"),
    ("store", "runs/store", "expected s3://bucket/prefix"),
    ("images.cpu", "Registry/MM1:x y", "expected an image"),
    ("volumes", [{"claim": "Data", "mount_path": "/data"}], "expected a name of lower-case letters"),
    ("volumes", [{"claim": "data", "mount_path": "data"}], "expected an absolute path"),
    ("volumes", [{"claim": "a", "mount_path": "/data"}, {"claim": "b", "mount_path": "/data/"}], "used by volumes.0 (a)"),
    ("volumes", [{"claim": "a", "mount_path": "/"}], "used by every container"),
    ("volumes", [{"claim": "a", "mount_path": "//tmp"}], "used by every container"),
    ("pools.cpu.cpus", float("inf"), "expected a finite number"),
    ("placement", {"trian": "cpu"}, "unknown kind of step 'trian'; did you mean 'train'"),
    ("retries.step", -1, "expected at least 0"),
    ("run_seconds", 0, "expected at least 1"),
    ("placement.train", "train-h200", "did you mean 'train-h100'"),
]


def profile_of(field: str, value: Any, folder: Path) -> profiles.Profile:
    tree: Any = value
    for key in reversed(field.split(".")):
        tree = {key: tree}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(tree))
    return profiles.read(str(path))


@pytest.mark.parametrize(("field", "value", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_field_that_kubernetes_would_refuse_is_named(field: str, value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        profile_of(field, value, tmp_path)
    message = str(caught.value)
    assert words in message and message.startswith("profile ")
    assert field.split(".")[0] in message


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "invalid YAML"), (b"- 1", "expected one map, got a list of 1"), (b"a: [", "invalid YAML")],
)
def test_a_file_that_is_no_profile_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"profile .*site.yaml: {words}"):
        profiles.read(str(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pools.cpu.memory", "1500M"),
        ("pools.cpu.labels", {"cloud.google.com/gke-nodepool": "a-1_b.C"}),
        ("pools.cpu.network.resources", {"vpc.amazonaws.com/efa": "32"}),
        ("pools.cpu.network.annotations", {"networking.gke.io/interfaces": '[{"interfaceName": "eth0"}]'}),
        ("pools.cpu.taints", [{"key": "nvidia.com/gpu"}, {"key": "karpenter.sh/x", "value": ""}]),
        ("images.cpu", "registry.example.org:5000/team/mm1-cpu:0.1@sha256:" + "0" * 64),
        ("images.cpu", "localhost/mm1-thin:test"),
        ("queue", ""),
        ("store", "s3://bucket"),
        ("volumes", [{"claim": "data", "mount_path": "/data"}]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_fields_that_kubernetes_takes_pass(field: str, value: Any, tmp_path: Path) -> None:
    profile_of(field, value, tmp_path)


@pytest.mark.parametrize("claims", [["a.b"], ["a" * 60], ["data", "data"]], ids=["dot", "long", "twice"])
def test_every_claim_gets_a_volume_of_its_own(claims: list[str], tmp_path: Path) -> None:
    mounts = [{"claim": claim, "mount_path": f"/data/{number}"} for number, claim in enumerate(claims)]
    volumes = profile_of("volumes", mounts, tmp_path).volumes
    assert [one.volume["persistentVolumeClaim"]["claimName"] for one in volumes] == claims
    names = {one.volume["name"] for one in volumes}
    assert names == {one.mount["name"] for one in volumes} and len(names) == len(claims)
    assert all(re.fullmatch("[a-z0-9-]{1,63}", name) for name in names)


def test_quantities() -> None:
    assert [quantity(text) for text in ("500m", "2Gi", "1.5e9", "3", ".5", "1Ki")] == [0.5, 2**31, 1.5e9, 3, 0.5, 1024]
