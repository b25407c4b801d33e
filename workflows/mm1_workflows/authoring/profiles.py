"""Profiles: what differs between places where the same workflow files run.

A profile maps image names to images, pools of nodes to resources and placement, and gives the store's address. It is applied
when a workflow file is built (``--profile NAME|FILE.yaml``); the committed YAML is the ``default`` profile. Declarations only:
reading a profile imports neither hera nor torch.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from mm1.config.base import Config
from mm1.config.resolve import suggest, validate
from mm1.errors import ConfigurationError
from mm1_components.wrapper.kubernetes_fields import (
    ImageName,
    LabelValue,
    ObjectName,
    OptionalName,
    StoreAddress,
    VariableName,
)
from mm1_components.wrapper.pools import ClaimMount, Pool
from mm1_workflows.argo import yaml_file

FOLDER = Path(__file__).parents[1] / "profiles"
"""The profiles that come with this package, and the table of node pools."""
POOLS = FOLDER / "pools.yaml"

PLACEMENT = {"cpu": "cpu", "train": "train-h100", "eval": "eval-l40s", "serve": "serve-l40s"}
"""Kinds of steps, and the pools that they run on by default."""
TAKEN = ("/", "/dev", "/dev/shm", "/proc", "/sys", "/tmp")
"""Paths in a container where no claim can be mounted."""


class Accounts(Config):
    """Service accounts by what a pod may do; the chart makes them."""

    step: ObjectName = "mm1-step"
    """Light steps: what Argo's executor needs, nothing else."""
    supervisor: ObjectName = "mm1-supervisor"
    """Training steps: also JobSets and the pods of their ranks."""
    rank: ObjectName = "mm1-rank"
    """Ranks: nothing; its token is not mounted."""


class Retries(Config):
    """How often what failed in a way that may pass is tried again."""

    step: int = Field(default=3, ge=0)
    """Light steps, by the engine."""
    supervisor: int = Field(default=10, ge=0)
    """Training steps, by the engine: one that comes back adopts its ranks, and over weeks it may be lost more often."""
    restarts: int = Field(default=3, ge=0)
    """Restarts of all ranks by JobSet, within one try of the supervisor; preemptions are not counted."""
    relaunches: int = Field(default=2, ge=0)
    """New JobSets with half the micro-batch after an out-of-memory, or away from a node after a hardware fault."""


class Profile(Config):
    """Where workflows run."""

    name: str = "default"
    """Name, for messages."""
    images: dict[str, ImageName] = Field(default={"cpu": "ghcr.io/mm1/cpu:0.1.0", "trainer": "ghcr.io/mm1/trainer:0.1.0"})
    """Image name -> image; with its digest from the first release on."""
    pools: dict[LabelValue, Pool] = Field(default={})
    """Pool name -> resources and placement; the table of ``pools.yaml``, and what a site adds."""
    placement: dict[str, str] = Field(default=PLACEMENT)
    """Kind of step -> pool that it runs on."""
    store: StoreAddress = "s3://mm1/store"
    """Address of the object store; the default of every workflow's parameter `store`."""
    accounts: Accounts = Accounts()
    """Accounts that the pods run as."""
    environment_secret: OptionalName = "mm1-store"
    """Secret whose keys become the pods' environment (credentials of the store); empty = none."""
    environment: dict[VariableName, str] = Field(default={})
    """Plain environment of every pod; never a secret."""
    volumes: tuple[ClaimMount, ...] = ()
    """Claims that every pod mounts, read-only."""
    queue: OptionalName = ""
    """Kueue's LocalQueue that training asks for its nodes; empty = no queue."""
    retries: Retries = Retries()
    """How often what failed is tried again."""
    archive_logs: bool = True
    """Keep the steps' logs in Argo's artifact store, for when the pods are gone."""
    run_seconds: int = Field(default=7 * 86_400, ge=1)
    """A whole run ends at the latest after this many seconds."""

    @model_validator(mode="after")
    def _check(self) -> Profile:
        for kind, name in self.placement.items():
            if kind not in PLACEMENT:
                raise ValueError(f"placement.{kind}: no kind of step {kind!r}; {suggest(kind, list(PLACEMENT))}")
            if name not in self.pools:
                raise ValueError(f"placement.{kind}: no pool {name!r}; {suggest(name, list(self.pools))}")
        for name, pool in self.pools.items():
            if pool.image not in self.images:
                raise ValueError(f"pools.{name}.image: no image {pool.image!r}; {suggest(pool.image, list(self.images))}")
        taken = dict.fromkeys(TAKEN, "by every container")
        for number, one in enumerate(self.volumes):
            path = posixpath.normpath(f"/{one.mount_path.lstrip('/')}")
            if path in taken:
                raise ValueError(f"volumes.{number}.mount_path: {one.mount_path!r} is used {taken[path]}; choose another path")
            taken[path] = f"by volumes.{number} ({one.claim})"
        return self

    def placed(self, kind: str) -> str:
        """The pool's name for a kind of step; a pool's own name stands for itself.

        Raises:
            ConfigurationError: neither.
        """
        if kind in self.placement:
            return self.placement[kind]
        self.pool(kind)
        return kind

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


def pools_table() -> dict[str, Any]:
    """The table of node pools; infrastructure code and the chart read the same file."""
    table: dict[str, Any] = yaml.safe_load(POOLS.read_text())["pools"]
    return table


@cache
def default() -> Profile:
    """The profile of the committed YAML."""
    return validate(Profile, {"pools": pools_table()}, POOLS.name)


_current: ContextVar[Profile | None] = ContextVar("profile", default=None)


def current() -> Profile:
    """The profile that workflow files are being built with."""
    return _current.get() or default()


@contextmanager
def using(profile: Profile) -> Iterator[Profile]:
    """Build with a profile inside the block."""
    token = _current.set(profile)
    try:
        yield profile
    finally:
        _current.reset(token)


def read(name: str) -> Profile:
    """A profile by name (``default``, or one that comes with this package), or a site's own from a YAML file.

    A file names only what differs from the default profile; maps are merged, everything else is replaced.

    Raises:
        ConfigurationError: no such name or file, or a field that does not fit.
    """
    if name == "default":
        return default()
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json"):
        known = {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if path != POOLS}
        if name not in known:
            words = suggest(name, ["default", *known])
            raise ConfigurationError(f"unknown profile {name!r}: {words}; or name a YAML file")
        path = known[name]
    given = yaml_file.read_map(path, f"profile {name}")
    base = default().model_dump(mode="json") | {"name": path.stem}
    return validate(Profile, _merged(base, given), f"profile {name}")


def _merged(base: Any, given: Any) -> Any:
    if isinstance(base, dict) and isinstance(given, dict):
        return base | {key: _merged(base.get(key), value) for key, value in given.items()}
    return given
