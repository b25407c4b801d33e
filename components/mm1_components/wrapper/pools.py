"""Node pools: the kinds of nodes, and the resources of a task on each. The table is ``mm1_workflows/profiles/pools.yaml``.

Infrastructure code creates the nodes. The chart and the workflows place pods on them, and the supervisor of a training run
places ranks, all by the pool's name. This module contains declarations and plain Kubernetes data only.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field, model_validator

from mm1.config.base import Config
from mm1_components.wrapper.kubernetes_fields import (
    LabelKey,
    LabelValue,
    MountPath,
    ObjectName,
    Quantity,
    VariableName,
    quantity,
)
from mm1_components.wrapper.nodes import Cloud, Machine, Nodes, Size

POOL_LABEL = "mm1.dev/pool"
"""Label of nodes and pods with the name of the pool."""
GPU_RESOURCE = "nvidia.com/gpu"


class Taint(Config):
    """A taint of nodes."""

    key: LabelKey
    """Its key."""
    value: LabelValue | None = None
    """Its value; if omitted, pods tolerate every value (operator Exists)."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Effect on pods that do not tolerate the taint."""

    @property
    def toleration(self) -> dict[str, str]:
        """The toleration of a pod on these nodes."""
        match = {"operator": "Exists"} if self.value is None else {"operator": "Equal", "value": self.value}
        return {"key": self.key, **match, "effect": self.effect}


class Network(Config):
    """The network between the nodes of a pool."""

    resources: dict[LabelKey, Quantity] = Field(default={})
    """Extended resources that a rank's pod requests to use the network, for example vpc.amazonaws.com/efa."""
    annotations: dict[LabelKey, str] = Field(default={})
    """Annotations of the ranks' pods, for example k8s.v1.cni.cncf.io/networks or networking.gke.io/interfaces."""
    environment: dict[VariableName, str] = Field(default={})
    """Environment variables of the ranks (NCCL settings)."""


class Pool(Config):
    """A kind of node, and the resources of a task on it."""

    image: str = "cpu"
    """Name of the image: cpu (light steps, no torch) or trainer."""
    gpu: str = ""
    """Model of the GPUs."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of one task."""
    cpus: float = Field(default=1, gt=0, allow_inf_nan=False)
    """Cores; request = limit."""
    burst: bool = False
    """No CPU limit (pools without GPUs only): a task may use idle cores."""
    memory: Quantity = "2Gi"
    """Memory as a Kubernetes quantity; request = limit."""
    shared_memory: Quantity = "64Mi"
    """Size of /dev/shm (part of `memory`)."""
    scratch: Quantity = "10Gi"
    """Size of /tmp."""
    labels: dict[LabelKey, LabelValue] = Field(default={})
    """Labels of the nodes, used as the pods' node selector."""
    taints: tuple[Taint, ...] = ()
    """Taints of the nodes, all tolerated by the pods."""
    network: Network = Network()
    """Network between the nodes. NCCL uses what the image has a plugin for, otherwise TCP."""
    nodes: dict[Cloud, Nodes] = Field(default={})
    """Cloud -> the nodes that infrastructure code creates; a pool of a cluster that exists needs none."""

    @model_validator(mode="after")
    def _check(self) -> Pool:
        if quantity(self.shared_memory) > quantity(self.memory):
            raise ValueError(f"shared_memory is part of memory: expected at most {self.memory}, got {self.shared_memory}")
        problems = [f"nodes.{cloud}.{problem}" for cloud, nodes in self.nodes.items() for problem in nodes.problems(cloud)]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def misfits(self, cloud: Cloud, machine: Machine) -> list[str]:
        """Return why a task of this pool does not run on the machine of a cloud: GPUs, CPUs, memory, disk, interfaces."""
        nodes = self.nodes[cloud]
        problems = [] if machine.cloud == cloud else [f"machine {nodes.machine} is one of {machine.cloud}"]
        if (gpu := nodes.gpu or self.gpu) != machine.gpu:
            problems.append(f"gpu: the pool has {gpu or 'none'}, {nodes.machine} has {machine.gpu or 'none'}")
        offered = {
            "gpus": (self.gpus, machine.gpus),
            "cpus": (self.cpus, machine.allocatable_cpus),
            "memory": (quantity(self.memory), machine.allocatable_memory),
            "scratch": (quantity(self.scratch), machine.scratch(nodes.disk_gib)),
        }
        for name, (request, free) in offered.items():
            if request > free:
                problems.append(f"{name}: a task requests {request:g}, {nodes.machine} offers {free:g}")
        if nodes.interfaces.kind != "none" and nodes.interfaces != machine.interfaces:
            problems.append(f"interfaces: the pool has {nodes.interfaces}, {nodes.machine} has {machine.interfaces}")
        return problems

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """Tolerations of pods on these nodes."""
        return [taint.toleration for taint in self.taints]

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits of a container."""
        requests = {"cpu": f"{self.cpus:g}", "memory": self.memory}
        if self.gpus:
            requests |= {GPU_RESOURCE: str(self.gpus)} | self.network.resources
        limits = {name: value for name, value in requests.items() if not (name == "cpu" and self.burst and not self.gpus)}
        return {"requests": requests, "limits": limits}


class PoolTable(Config):
    """The table of node pools: ``pools.yaml``."""

    pools: dict[LabelValue, Pool]
    """Name of a pool -> its nodes, and the resources of a task on it."""
    environments: dict[str, dict[LabelValue, Size]] = Field(default={})
    """Name of an environment -> pool -> its number of nodes there, if it differs."""

    @model_validator(mode="after")
    def _check(self) -> PoolTable:
        for environment, sizes in self.environments.items():
            for name in sizes:
                if name not in self.pools:
                    raise ValueError(f"environments.{environment}: no pool {name!r}; there are {', '.join(self.pools)}")
        return self


class ClaimMount(Config):
    """A persistent volume claim that pods mount read-only, for example with a decoder or raw data."""

    claim: ObjectName
    """Name of the claim."""
    mount_path: MountPath
    """Path at which it is mounted."""

    @property
    def name(self) -> str:
        """Name of the volume: unlike a claim's name, at most 63 characters, and unique if a claim has several mounts."""
        return f"claim-{hashlib.sha256(self.mount_path.encode()).hexdigest()[:10]}"

    @property
    def volume(self) -> dict[str, Any]:
        """The pod's volume."""
        return {"name": self.name, "persistentVolumeClaim": {"claimName": self.claim, "readOnly": True}}

    @property
    def mount(self) -> dict[str, Any]:
        """The container's mount."""
        return {"name": self.name, "mountPath": self.mount_path, "readOnly": True}
