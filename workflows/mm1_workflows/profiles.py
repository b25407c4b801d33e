"""Profiles: what differs between places where the same workflow files run.

A profile maps image names to images, pools of nodes to resources and placement, and gives the store's address. It is applied
when a workflow file is built (``--profile NAME|FILE.yaml``); the committed YAML is the ``default`` profile. Declarations only:
reading a profile imports neither hera nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from mm1.config.base import Config
from mm1.config.resolve import suggest, validate
from mm1.errors import ConfigurationError
from mm1_workflows.graph import POOL_LABEL


class Pool(Config):
    """A kind of node, and what a task placed there may use."""

    image: str = "cpu"
    """Image by name: cpu (light steps, no torch) or trainer."""
    cpus: int = 1
    """Cores; request = limit."""
    memory: str = "2Gi"
    """Memory as a Kubernetes quantity; request = limit."""
    gpus: int = 0
    """GPUs."""
    shared_memory: str = "64Mi"
    """Size of /dev/shm (part of `memory`)."""
    scratch: str = "10Gi"
    """Size of /tmp."""
    node_selector: dict[str, str] = Field(default={})
    """Labels that the node must have."""
    tolerations: tuple[dict[str, str], ...] = ()
    """Taints that the pod puts up with."""
    whole_machine: bool = False
    """On one machine a task of this pool gets all cores, otherwise `cpus`."""


def _placed(pool: str, **values: Any) -> Pool:
    taint = {"key": POOL_LABEL, "operator": "Equal", "value": pool, "effect": "NoSchedule"}
    return Pool(node_selector={POOL_LABEL: pool}, tolerations=(taint,), **values)


class Profile(Config):
    """Where workflows run."""

    name: str = "default"
    """Name, for messages."""
    images: dict[str, str] = Field(default={"cpu": "ghcr.io/mm1/cpu:0.1.0", "trainer": "ghcr.io/mm1/trainer:0.1.0"})
    """Image name -> image; with its digest from the first release on."""
    pools: dict[str, Pool] = Field(
        default={
            "cpu": Pool(),
            "train": _placed(
                "train",
                image="trainer",
                cpus=8,
                memory="64Gi",
                gpus=1,
                shared_memory="8Gi",
                scratch="100Gi",
                whole_machine=True,
            ),
            "eval": _placed(
                "eval", image="trainer", cpus=4, memory="32Gi", gpus=1, shared_memory="2Gi", scratch="50Gi", whole_machine=True
            ),
        }
    )
    """Pool name -> resources and placement."""
    store: str = "s3://mm1/store"
    """Address of the object store; the default of every workflow's parameter `store`."""
    service_account: str = "mm1-workflow"
    """Account that the pods run as."""
    environment_secret: str = "mm1-store"
    """Secret whose keys become the pods' environment (credentials of the store); empty = none."""
    run_seconds: int = 7 * 86_400
    """A whole run ends at the latest after this many seconds."""

    def pool(self, name: str) -> Pool:
        """A pool by name.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if name not in self.pools:
            raise ConfigurationError(f"profile {self.name}: no pool {name!r}; {suggest(name, list(self.pools))}")
        return self.pools[name]

    def image(self, name: str) -> str:
        """An image by name.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if name not in self.images:
            raise ConfigurationError(f"profile {self.name}: no image {name!r}; {suggest(name, list(self.images))}")
        return self.images[name]


BUILT_IN = {"default": Profile()}
_current: ContextVar[Profile] = ContextVar("profile", default=BUILT_IN["default"])


def current() -> Profile:
    """The profile that workflow files are being built with."""
    return _current.get()


@contextmanager
def using(profile: Profile) -> Iterator[Profile]:
    """Build with a profile inside the block."""
    token = _current.set(profile)
    try:
        yield profile
    finally:
        _current.reset(token)


def read(name: str) -> Profile:
    """A built-in profile by name, or a site's own from a YAML file.

    A file names only what differs from the default profile; maps are merged, everything else is replaced.

    Raises:
        ConfigurationError: no such name or file, or a field that does not fit.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigurationError(f"unknown profile {name!r}: {suggest(name, list(BUILT_IN))}; or name a YAML file")
    try:
        given = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        raise ConfigurationError(f"profile {name}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"profile {name}: not YAML: {error}") from None
    base = BUILT_IN["default"].model_dump(mode="json") | {"name": path.stem}
    return validate(Profile, _merged(base, given), f"profile {name}")


def _merged(base: Any, given: Any) -> Any:
    if isinstance(base, dict) and isinstance(given, dict):
        return base | {key: _merged(base.get(key), value) for key, value in given.items()}
    return given
