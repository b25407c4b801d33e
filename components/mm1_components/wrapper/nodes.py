"""Nodes of a pool in each cloud, and the facts of machine types by which a pool is checked.

The nodes are part of ``mm1_workflows/profiles/pools.yaml``, the facts are ``mm1_workflows/profiles/machines.yaml``. Terraform
reads both files; pods only depend on a pool's labels, taints and resources.
"""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, model_validator

from mm1.config.base import Config

Cloud = Literal["aws", "gcp"]
"""Amazon Web Services, Google Cloud."""
Capacity = Literal["reservation", "capacity-block", "flex-start", "spot", "on-demand"]
"""How machines are bought: reserved for longer, a capacity block of AWS, queued for days on Google Cloud, spot, on demand."""
InterfaceKind = Literal["none", "efa", "tcpx", "tcpxo", "rdma"]
"""Network interfaces for traffic between GPUs: EFA on AWS; GPUDirect-TCPX, -TCPXO and RDMA on Google Cloud."""

CAPACITIES: dict[Cloud, tuple[Capacity, ...]] = {
    "aws": ("reservation", "capacity-block", "spot", "on-demand"),
    "gcp": ("reservation", "flex-start", "spot", "on-demand"),
}
"""Cloud -> its capacity types, in the only order in which autoscalers try them."""
INTERFACES: dict[Cloud, tuple[InterfaceKind, ...]] = {"aws": ("none", "efa"), "gcp": ("none", "tcpx", "tcpxo", "rdma")}
"""Cloud -> its kinds of interfaces."""
GIB = 2**30
IMAGES_GIB = 50
"""Space on a node's disk for images, logs and the system, in GiB."""


class Interfaces(Config):
    """Network interfaces of a node for traffic between GPUs."""

    kind: InterfaceKind = "none"
    """Kind of the interfaces."""
    count: int = Field(default=0, ge=0)
    """Number of interfaces per node."""

    @model_validator(mode="after")
    def _check(self) -> Interfaces:
        if (self.kind == "none") != (self.count == 0):
            raise ValueError(f"count: expected 0 exactly for kind none, got {self.count} for {self.kind}")
        return self


class Size(Config):
    """Number of nodes."""

    min: int = Field(default=0, ge=0)
    """Minimum number of nodes."""
    max: int = Field(ge=0)
    """Maximum number of nodes; equal to `min` for groups of a static size."""

    @model_validator(mode="after")
    def _check(self) -> Size:
        if self.min > self.max:
            raise ValueError(f"min: expected at most max ({self.max}), got {self.min}")
        return self


class Nodes(Config):
    """The nodes of a pool in one cloud."""

    machine: str
    """Machine type; its facts are in ``machines.yaml``."""
    provisioner: Literal["managed-group", "autoscaler"]
    """Who creates the nodes: a managed node group of a static size, or Karpenter (AWS) and node auto-provisioning (Google)."""
    capacity: tuple[Capacity, ...] = Field(default=("on-demand",), min_length=1)
    """Capacity types by preference. A managed group uses the first that it has; reservation and capacity-block need an id."""
    zone: str = ""
    """Zone, without the region (a, b, c); empty = the network's first for a managed group, any for an autoscaler."""
    placement: Literal["none", "compact"] = "none"
    """Compact = machines next to each other: a cluster placement group (AWS), a compact placement policy (Google)."""
    interfaces: Interfaces = Interfaces()
    """Network interfaces for traffic between GPUs."""
    gpu: str = ""
    """Model of the GPUs if this cloud lacks that of the pool; empty = the pool's."""
    devices: Literal["device-plugin", "dra"] = "device-plugin"
    """How GPUs are offered to pods. Pods request nvidia.com/gpu, which DRA needs a device class for."""
    disk_gib: int = Field(default=100, ge=1)
    """Size of the boot disk, in GiB. It holds images, and the pool's `scratch` if the machine has no local disks."""
    size: Size
    """Number of nodes."""

    @model_validator(mode="after")
    def _check(self) -> Nodes:
        if self.provisioner == "managed-group" and self.size.min != self.size.max:
            raise ValueError(f"size: expected min = max for a managed group, got {self.size.min} and {self.size.max}")
        return self

    def problems(self, cloud: Cloud) -> list[str]:
        """Return what the cloud does not have: capacity types, also their order, and interfaces."""
        problems = [f"capacity: {cloud} has no {kind}" for kind in self.capacity if kind not in CAPACITIES[cloud]]
        if not problems and list(self.capacity) != [kind for kind in CAPACITIES[cloud] if kind in self.capacity]:
            problems.append(f"capacity: expected the order {', '.join(CAPACITIES[cloud])}, got {', '.join(self.capacity)}")
        if self.interfaces.kind not in INTERFACES[cloud]:
            problems.append(f"interfaces.kind: {cloud} has no {self.interfaces.kind}")
        return problems


class Price(Config):
    """An approximate price on demand."""

    usd_per_hour: float = Field(gt=0)
    """USD per hour and machine, on demand, without discounts."""
    region: str
    """Region of the price."""
    noted: datetime.date
    """Day of about which it is."""


class Machine(Config):
    """Facts of a machine type."""

    cloud: Cloud
    """Cloud that has it."""
    cpus: int = Field(ge=1)
    """Virtual CPUs."""
    memory_gib: int = Field(ge=1)
    """Memory, in GiB."""
    gpu: str = ""
    """Model of the GPUs."""
    gpus: int = Field(default=0, ge=0)
    """Number of GPUs."""
    gpu_memory_gb: int = Field(default=0, ge=0)
    """Memory of one GPU as its maker states it, in GB."""
    local_disks: int = Field(default=0, ge=0)
    """Number of local NVMe disks."""
    local_disk_gb: int = Field(default=0, ge=0)
    """Size of one of them, in GB."""
    interfaces: Interfaces = Interfaces()
    """Network interfaces for traffic between GPUs, the most that the machine takes."""
    price: Price | None = None
    """Approximate price; none = not noted."""

    @property
    def allocatable_cpus(self) -> float:
        """CPUs for pods: without 1% and one CPU for kubelet, the system, and daemons (network, devices, logs)."""
        return self.cpus * 0.99 - 1

    @property
    def allocatable_memory(self) -> float:
        """Memory for pods, in bytes: without 10% and 2 GiB.

        Karpenter expects 7.5% less than the stated size inside of the machine; kubelet and daemons need the rest.
        """
        return (self.memory_gib * 0.9 - 2) * GIB

    def scratch(self, disk_gib: int) -> float:
        """Return the bytes for /tmp of pods: on the local disks if there are any, otherwise on a boot disk of this size."""
        if self.local_disks:
            return self.local_disks * self.local_disk_gb * 1e9 - IMAGES_GIB * GIB
        return (disk_gib - IMAGES_GIB) * GIB
