"""The nodes of the table of pools: the JSON schema is what the code declares, and tasks fit on the machines of both clouds."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from mm1.config.resolve import validate
from mm1.errors import ConfigurationError
from mm1_components.wrapper.nodes import Nodes
from mm1_components.wrapper.pools import Pool, PoolTable
from mm1_workflows.authoring import profiles
from tests.support.scheduling import MACHINES, TABLE

SCHEMA = profiles.FOLDER / "pools.schema.json"
CASES = [(name, cloud) for name, pool in TABLE.pools.items() for cloud in pool.nodes]


@pytest.mark.golden
def test_the_schema_of_the_table_is_what_the_code_declares() -> None:
    text = json.dumps(PoolTable.model_json_schema(), indent=2) + "\n"
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        SCHEMA.write_text(text, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == text, "pools.schema.json is out of date: run `make golden` if this is meant"


@pytest.mark.parametrize(("name", "cloud"), CASES)
def test_a_task_fits_on_its_machine(name: str, cloud: Any) -> None:
    pool = TABLE.pools[name]
    assert pool.misfits(cloud, MACHINES[pool.nodes[cloud].machine]) == []
    assert pool.nodes[cloud].provisioner == "autoscaler" or pool.gpus == MACHINES[pool.nodes[cloud].machine].gpus


def test_every_machine_is_used() -> None:
    assert {nodes.machine for pool in TABLE.pools.values() for nodes in pool.nodes.values()} == set(MACHINES)


@pytest.mark.parametrize(
    ("change", "cloud", "problem"),
    [
        ({"gpus": 16}, "aws", "gpus: a task requests 16, p5.48xlarge offers 8"),
        ({"cpus": 192}, "aws", "cpus: a task requests 192, p5.48xlarge offers 189.08"),
        ({"memory": "1700Gi"}, "gcp", "memory: a task requests 1.82536e+12, a3-highgpu-8g offers"),
        ({"scratch": "40Ti"}, "aws", "scratch: "),
        ({"gpu": "h200"}, "aws", "gpu: the pool has h200, p5.48xlarge has h100"),
    ],
)
def test_a_task_that_does_not_fit_is_named(change: dict[str, Any], cloud: Any, problem: str) -> None:
    pool = Pool.model_validate(TABLE.pools["train-h100"].model_dump(mode="json") | change)
    problems = pool.misfits(cloud, MACHINES[pool.nodes[cloud].machine])
    assert len(problems) == 1 and problems[0].startswith(problem), problems


def test_the_number_of_interfaces_is_that_of_the_machine() -> None:
    nodes = TABLE.pools["train-h100"].nodes["aws"].model_dump(mode="json")
    few = Nodes.model_validate(nodes | {"interfaces": {"kind": "efa", "count": 16}})
    pool = TABLE.pools["train-h100"].model_copy(update={"nodes": {"aws": few}})
    assert pool.misfits("aws", MACHINES["p5.48xlarge"])[0].startswith("interfaces: the pool has kind='efa' count=16")


@pytest.mark.parametrize(
    ("cloud", "nodes", "message"),
    [
        ("aws", {"capacity": ["flex-start"]}, "nodes.aws.capacity: aws has no flex-start"),
        ("gcp", {"capacity": ["capacity-block"]}, "nodes.gcp.capacity: gcp has no capacity-block"),
        ("aws", {"capacity": ["on-demand", "spot"]}, "expected the order reservation, capacity-block, spot, on-demand"),
        ("aws", {"interfaces": {"kind": "tcpx", "count": 4}}, "nodes.aws.interfaces.kind: aws has no tcpx"),
        ("gcp", {"interfaces": {"kind": "tcpx"}}, "count: expected 0 exactly for kind none, got 0 for tcpx"),
        ("aws", {"provisioner": "managed-group"}, "size: expected min = max for a managed group, got 0 and 4"),
        ("aws", {"size": {"min": 5, "max": 4}}, "min: expected at most max"),
    ],
)
def test_nodes_that_a_cloud_cannot_have_are_refused(cloud: str, nodes: dict[str, Any], message: str) -> None:
    given = {"machine": "any", "provisioner": "autoscaler", "size": {"min": 0, "max": 4}} | nodes
    with pytest.raises(ConfigurationError, match=message):
        validate(Pool, {"nodes": {cloud: given}}, "pool")


def test_sizes_of_an_environment_are_those_of_pools() -> None:
    with pytest.raises(ConfigurationError, match=r"environments\.dev: no pool 'train'; there are cpu"):
        validate(PoolTable, {"pools": {"cpu": {}}, "environments": {"dev": {"train": {"max": 1}}}}, "pools.yaml")
