"""How a training step starts its ranks on a cluster: the JSON behind ``--launcher``, made from the profile at compile time.

Everything that differs between clusters and that the supervisor needs is in it, so that the supervisor reads no file of the
cluster and two engines start it alike.
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


class Launcher(Config):
    """Where ranks run, as whom, with what."""

    pool: str
    """Pool of the ranks when the step names none."""
    pools: dict[str, Pool]
    """Pools that the step may name."""
    images: dict[str, str]
    """Image name -> image."""
    account: str = "mm1-rank"
    """Service account of the ranks; its token is not mounted."""
    environment_secret: str = ""
    """Secret whose keys become the ranks' environment."""
    environment: dict[str, str] = Field(default={})
    """Plain environment of the ranks."""
    volumes: tuple[ClaimMount, ...] = ()
    """Claims that the ranks mount."""
    queue: str = ""
    """Kueue's LocalQueue; empty = none."""
    grace_s: int = Field(default=600, ge=1)
    """Seconds between SIGTERM and SIGKILL: one step and a checkpoint must fit in."""
    restarts: int = Field(default=3, ge=0)
    """Restarts of the whole gang by JobSet itself (lost pods, network), preemptions not counted; then the step fails, and the
    engine may try it again."""
    relaunches: int = Field(default=2, ge=0)
    """New JobSets with half the micro-batch after an out-of-memory, or away from a node after a hardware fault."""
    timeout_s: int = Field(default=14 * 86_400, ge=1)
    """A JobSet ends at the latest after this many seconds."""
    pull_timeout_s: int = Field(default=60, ge=1)
    """Seconds after which an image that cannot be pulled ends the run."""


class Layout(Config):
    """How a training step wants its ranks laid out."""

    nodes: int = Field(default=1, ge=1)
    """Nodes (pods on a cluster; on one machine their processes run side by side)."""
    processes: int = Field(default=0, ge=0)
    """Ranks of one node; 0 = one for each GPU, or one where there is none."""
    pool: str = ""
    """Pool of nodes; empty = the launcher's."""
    grace_s: int = Field(default=600, ge=1)
    """Seconds between a request to stop and the end by force."""

    def ranks_per_node(self, gpus: int) -> int:
        """Ranks of one node that has so many GPUs."""
        return self.processes or gpus or 1

    def world_size(self, launcher: str) -> int:
        """Ranks of all nodes.

        Args:
            launcher: how they are started on a cluster, as JSON; empty = on this machine, with its GPUs.

        Raises:
            ConfigurationError: the launcher cannot be read, or does not know the pool.
        """
        if not launcher:
            return self.nodes * self.ranks_per_node(num_gpus())
        return self.nodes * self.ranks_per_node(self.pool_of(parse_launcher(launcher)).gpus)

    def pool_of(self, launcher: Launcher) -> Pool:
        """The pool that ranks are started in.

        Raises:
            ConfigurationError: the launcher knows none of that name.
        """
        name = self.pool or launcher.pool
        if name not in launcher.pools:
            raise ConfigurationError(
                f"pool {name!r} is unknown in this profile, or has no GPUs; {suggest(name, list(launcher.pools))}"
            )
        return launcher.pools[name]


def parse_launcher(text: str) -> Launcher:
    """A launcher from the JSON of the command line.

    Raises:
        ConfigurationError: not JSON, or a field that does not fit.
    """
    try:
        return validate(Launcher, json.loads(text), LAUNCHER_FLAG)
    except ValueError as error:
        raise ConfigurationError(f"{LAUNCHER_FLAG} is not JSON: {error}") from None


def result_key(key: str) -> str:
    """Name of the object in the store with the result of a piece of work; node 0 writes it, the supervisor reads it."""
    return f"launch/{key}/result.json"
