"""Node pools: what a kind of node is, and what one task there gets. The table is ``mm1_workflows/profiles/pools.yaml``.

Infrastructure code makes the nodes, the chart and the workflows place pods on them, the supervisor of a training run its
ranks: all by the pool's name. Declarations and plain Kubernetes data only.
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

POOL_LABEL = "mm1.dev/pool"
"""Label of nodes and pods: name of the pool."""
GPU_RESOURCE = "nvidia.com/gpu"


class Taint(Config):
    """A taint of nodes, which keeps pods off that do not tolerate it."""

    key: LabelKey
    """Its key."""
    value: LabelValue
    """Its value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """What it does to pods that do not tolerate it."""


class Network(Config):
    """How nodes of a pool reach each other."""

    kind: Literal["tcp", "rdma"] = "tcp"
    """tcp, or a fast network past the kernel (InfiniBand, EFA)."""
    resources: dict[LabelKey, Quantity] = Field(default={})
    """Extended resources that a rank's pod asks for to get at the network, for example vpc.amazonaws.com/efa."""
    environment: dict[VariableName, str] = Field(default={})
    """Environment of the ranks (NCCL settings)."""


class Pool(Config):
    """A kind of node, and what a task placed there may use."""

    image: str = "cpu"
    """Image by name: cpu (light steps, no torch) or trainer."""
    machine: dict[str, str] = Field(default={})
    """Cloud -> its name for the machine."""
    gpu: str = ""
    """Model of the GPUs."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of one task."""
    cpus: float = Field(default=1, gt=0, allow_inf_nan=False)
    """Cores; request = limit."""
    burst: bool = False
    """No upper limit of cores (pools without GPUs only): a task may use what nobody else does."""
    memory: Quantity = "2Gi"
    """Memory as a Kubernetes quantity; request = limit."""
    shared_memory: Quantity = "64Mi"
    """Size of /dev/shm (part of `memory`)."""
    scratch: Quantity = "10Gi"
    """Size of /tmp."""
    labels: dict[LabelKey, LabelValue] = Field(default={})
    """Labels of the nodes; a pod asks for all of them."""
    taints: tuple[Taint, ...] = ()
    """Taints of the nodes; a pod tolerates all of them."""
    network: Network = Network()
    """Network among the nodes."""

    @model_validator(mode="after")
    def _check(self) -> Pool:
        if quantity(self.shared_memory) > quantity(self.memory):
            raise ValueError(f"shared_memory {self.shared_memory} is part of memory, which is {self.memory} only")
        return self

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """Tolerations of pods on these nodes."""
        return [{"key": t.key, "operator": "Equal", "value": t.value, "effect": t.effect} for t in self.taints]

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """A container's requests and limits."""
        requests = {"cpu": f"{self.cpus:g}", "memory": self.memory}
        if self.gpus:
            requests |= {GPU_RESOURCE: str(self.gpus)} | self.network.resources
        limits = {name: value for name, value in requests.items() if not (name == "cpu" and self.burst and not self.gpus)}
        return {"requests": requests, "limits": limits}


class ClaimMount(Config):
    """A persistent volume claim that pods mount read-only, for example with a decoder's folder or raw data."""

    claim: ObjectName
    """Name of the claim."""
    mount_path: MountPath
    """Where it appears."""

    @property
    def name(self) -> str:
        """The volume's name: unlike the claim's it is at most 63 characters long, and a claim may appear at several places."""
        return f"claim-{hashlib.sha256(self.mount_path.encode()).hexdigest()[:10]}"

    @property
    def volume(self) -> dict[str, Any]:
        """The pod's volume."""
        return {"name": self.name, "persistentVolumeClaim": {"claimName": self.claim, "readOnly": True}}

    @property
    def mount(self) -> dict[str, Any]:
        """The container's mount."""
        return {"name": self.name, "mountPath": self.mount_path, "readOnly": True}
