"""Whether the nodes of the table of pools take a pod: selector, taints, resources, devices and disk, as Kubernetes decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter

from mm1_components.wrapper.kubernetes_fields import quantity
from mm1_components.wrapper.nodes import Cloud, Machine
from mm1_components.wrapper.pools import GPU_RESOURCE, Pool, PoolTable
from mm1_workflows.authoring import profiles

TABLE = PoolTable.model_validate(yaml.safe_load(profiles.POOLS.read_text()))
MACHINES = TypeAdapter(dict[str, Machine]).validate_python(yaml.safe_load(profiles.MACHINES.read_text()))
CLOUDS: tuple[Cloud, ...] = get_args(Cloud)
EFA_RESOURCE = "vpc.amazonaws.com/efa"


def offered(pool: Pool, cloud: Cloud) -> dict[str, float]:
    """Resources of an empty node of a pool."""
    nodes = pool.nodes[cloud]
    machine = MACHINES[nodes.machine]
    resources = {
        "cpu": machine.allocatable_cpus,
        "memory": machine.allocatable_memory,
        "ephemeral-storage": machine.scratch(nodes.disk_gib),
    }
    if machine.gpus and nodes.devices == "device-plugin":
        resources[GPU_RESOURCE] = machine.gpus
    if nodes.interfaces.kind == "efa":
        resources[EFA_RESOURCE] = nodes.interfaces.count
    return resources


def tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    same_key = toleration.get("key", taint["key"]) == taint["key"]
    same_value = toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == taint.get("value", "")
    return same_key and same_value and toleration.get("effect", taint["effect"]) == taint["effect"]


def refusals(spec: Mapping[str, Any], pool: Pool, cloud: Cloud) -> Iterator[str]:
    """Why a node of a pool does not take a pod; nothing if it does."""
    for key, value in (spec.get("nodeSelector") or {}).items():
        if pool.labels.get(key) != value:
            yield f"no label {key}={value}"
    for taint in pool.taints:
        if not any(tolerates(item, taint.model_dump()) for item in spec.get("tolerations") or []):
            yield f"taint {taint.key}={taint.value} is not tolerated"
    if spec.get("resourceClaims") and pool.nodes[cloud].devices != "dra":
        yield "no devices by DRA"
    free = offered(pool, cloud)
    for name, request in requests(spec).items():
        if name not in free:
            yield f"no {name}"
        elif request > free[name]:
            yield f"{name}: requests {request:g}, offers {free[name]:g}"


def requests(spec: Mapping[str, Any]) -> dict[str, float]:
    """Resources of a pod: the sum of its containers, or its volumes on disk if they are larger."""
    total: dict[str, float] = {}
    for container in spec["containers"]:
        resources = container.get("resources") or {}
        for name, value in ((resources.get("limits") or {}) | (resources.get("requests") or {})).items():
            total[name] = total.get(name, 0) + quantity(str(value))
    folders = [volume["emptyDir"] for volume in spec.get("volumes") or [] if "emptyDir" in volume]
    on_disk = sum(quantity(folder["sizeLimit"]) for folder in folders if folder.get("medium") != "Memory")
    return total | {"ephemeral-storage": max(total.get("ephemeral-storage", 0), on_disk)}


def pools_for(spec: Mapping[str, Any], cloud: Cloud) -> list[str]:
    """Names of the pools that take a pod.

    Raises:
        AssertionError: none does; it has the reasons of each.
    """
    reasons = {name: list(refusals(spec, pool, cloud)) for name, pool in TABLE.pools.items()}
    names = [name for name, problems in reasons.items() if not problems]
    lines = [f"  {name}: {'; '.join(problems)}" for name, problems in reasons.items()]
    assert names, "\n".join([f"no pool on {cloud} takes the pod:", *lines])
    return names
