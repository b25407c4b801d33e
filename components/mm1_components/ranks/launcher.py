"""The launcher of ranks on a cluster: the JSON of ``--launcher``, generated from the profile at compile time.

It contains everything that the supervisor needs to know about the cluster. The supervisor therefore reads no other file, and
every engine starts it in the same way.
"""

from __future__ import annotations

import json

from pydantic import Field

from mm1.config.base import Config
from mm1.config.resolve import suggest, validate
from mm1.errors import ConfigurationError
from mm1.machine import num_gpus
from mm1_components.wrapper.arguments import LAUNCHER_FLAG
from mm1_components.wrapper.pools import ClaimMount, Pool

LEASE_S = 3_600
"""Default of :attr:`Launcher.lease_s`: longer than a supervisor is away that is moved, or whose node is replaced."""
RETRIES = 10
"""Default of :attr:`Launcher.retries`."""
METRICS_PORT = 9464
"""Default of :attr:`Launcher.metrics_port`, usual for exporters of Prometheus' format."""


class Launcher(Config):
    """Pools, images, service account and limits of the ranks."""

    pool: str
    """Default pool of the ranks."""
    pools: dict[str, Pool]
    """Pools that the step may select."""
    images: dict[str, str]
    """Name of an image -> its reference."""
    account: str = "mm1-rank"
    """Service account of the ranks; its token is not mounted."""
    environment_secret: str = ""
    """Secret whose keys become environment variables of the ranks."""
    environment: dict[str, str] = Field(default={})
    """Environment variables of the ranks."""
    volumes: tuple[ClaimMount, ...] = ()
    """Claims that the ranks mount."""
    queue: str = ""
    """Kueue's LocalQueue; empty = none."""
    priority: str = ""
    """Kueue's WorkloadPriorityClass in that queue; empty = that of the pods."""
    grace_s: int = Field(default=600, ge=1)
    """Seconds between SIGTERM and SIGKILL; must be enough for one step and a checkpoint."""
    restarts: int = Field(default=3, ge=0)
    """Restarts of the whole gang by the JobSet (lost pods, network errors), not counting preemptions. After these the step
    fails, and the engine may retry it."""
    relaunches: int = Field(default=2, ge=0)
    """New JobSets with half the micro-batch after an out-of-memory error, or on other nodes after a hardware fault."""
    retries: int = Field(default=RETRIES, ge=0)
    """Retries of the supervisor's step by the engine. In the last attempt, the supervisor does not leave its ranks behind."""
    timeout_s: int | None = Field(default=None, ge=1)
    """Maximum duration of a JobSet's attempt, in seconds; None = no limit."""
    lease_s: int = Field(default=LEASE_S, ge=60)
    """Seconds for which ranks continue without a supervisor; then they save a checkpoint and end."""
    pull_timeout_s: int = Field(default=60, ge=1)
    """Seconds after which an image that cannot be pulled fails the run."""
    metrics_port: int | None = Field(default=METRICS_PORT, ge=1, le=65535)
    """Port of the supervisor for Prometheus' scrapes; None = no server."""

    def deadline_s(self, elapsed_s: float) -> int:
        """Return the next deadline of a Job that has run for ``elapsed_s`` seconds, in seconds since its start."""
        lease = int(elapsed_s) + self.lease_s
        return lease if self.timeout_s is None else min(lease, self.timeout_s)


class Layout(Config):
    """Nodes and processes of a training step."""

    nodes: int = Field(default=1, ge=1)
    """Number of nodes (pods on a cluster; on one machine, their processes run side by side)."""
    processes: int = Field(default=0, ge=0)
    """Ranks per node; 0 = one per GPU, or one without GPUs."""
    pool: str = ""
    """Node pool; empty = the launcher's default."""
    grace_s: int = Field(default=600, ge=1)
    """Seconds between a request to stop and SIGKILL."""

    def ranks_per_node(self, gpus: int) -> int:
        """Return the number of ranks on a node with this number of GPUs."""
        return self.processes or gpus or 1

    def world_size(self, launcher: str) -> int:
        """Return the number of ranks on all nodes.

        Args:
            launcher: launcher of a cluster, as JSON; empty = this machine, with its GPUs.

        Raises:
            ConfigurationError: the launcher is invalid or does not have the pool.
        """
        if not launcher:
            return self.nodes * self.ranks_per_node(num_gpus())
        return self.nodes * self.ranks_per_node(self.pool_of(parse_launcher(launcher)).gpus)

    def pool_of(self, launcher: Launcher) -> Pool:
        """Return the pool of the ranks.

        Raises:
            ConfigurationError: the launcher has no pool of that name.
        """
        name = self.pool or launcher.pool
        if name not in launcher.pools:
            raise ConfigurationError(
                f"pool {name!r} does not exist in this profile, or has no GPUs; {suggest(name, list(launcher.pools))}"
            )
        return launcher.pools[name]


def parse_launcher(text: str) -> Launcher:
    """Parse a launcher from the JSON of the command line.

    Raises:
        ConfigurationError: invalid JSON, or an invalid field.
    """
    try:
        return validate(Launcher, json.loads(text), LAUNCHER_FLAG)
    except ValueError as error:
        raise ConfigurationError(f"{LAUNCHER_FLAG}: invalid JSON: {error}") from None


def result_key(key: str) -> str:
    """Return the key of a training job's result in the store; node 0 writes it, and the supervisor reads it."""
    return f"launch/{key}/result.json"
