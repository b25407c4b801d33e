"""Profiles: the settings that differ between environments for the same workflow files.

A profile maps image names to images and node pools to resources and placement, and sets the store's address. It is applied
when a workflow file is built (``--profile NAME|FILE.yaml``); the committed YAML uses the profile ``default``. Reading a profile
imports neither Hera nor torch.
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
from mm1.monitoring.logs import LogFormat
from mm1_components.ranks.launcher import LEASE_S, METRICS_PORT, RETRIES
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
"""Folder with the profiles of this package, the table of node pools and the facts of machine types."""
POOLS = FOLDER / "pools.yaml"
MACHINES = FOLDER / "machines.yaml"

PLACEMENT = {"cpu": "cpu", "train": "train-h100", "eval": "eval-l40s", "serve": "serve-l40s"}
"""Kind of step -> its default pool."""
SIGNING_PATH = "/etc/mm1/sign"
"""Folder of the signing key in the pods that mount it."""
RESERVED_PATHS = ("/", "/dev", "/dev/shm", "/proc", "/sys", "/tmp", SIGNING_PATH)
"""Paths in a container at which claims cannot be mounted."""


class Accounts(Config):
    """Service accounts of the pods, created by the chart."""

    step: ObjectName = "mm1-step"
    """Light steps: only the permissions of Argo's executor."""
    supervisor: ObjectName = "mm1-supervisor"
    """Training steps: also permissions for JobSets and the pods of their ranks."""
    rank: ObjectName = "mm1-rank"
    """Ranks: no permissions; the token is not mounted."""
    rollout: ObjectName = "mm1-rollout"
    """The step `rollout`: also permissions for the Deployment that serves, and its canary."""


class Retries(Config):
    """Maximum numbers of retries after transient failures."""

    step: int = Field(default=3, ge=0)
    """Retries of light steps by the engine."""
    supervisor: int = Field(default=RETRIES, ge=0)
    """Retries of training steps by the engine. A restarted supervisor adopts its ranks, and may be lost often over weeks."""
    restarts: int = Field(default=3, ge=0)
    """Restarts of all ranks by the JobSet within one attempt of the supervisor, not counting preemptions."""
    relaunches: int = Field(default=2, ge=0)
    """New JobSets with half the micro-batch after an out-of-memory error, or on other nodes after a hardware fault."""


class Profile(Config):
    """The environment in which workflows run."""

    name: str = "default"
    """Name of the profile, for messages."""
    images: dict[str, ImageName] = Field(default={"cpu": "ghcr.io/mm1/cpu:0.1.0", "trainer": "ghcr.io/mm1/trainer:0.1.0"})
    """Name of an image -> its reference (with a digest from the first release on)."""
    pools: dict[LabelValue, Pool] = Field(default={})
    """Name of a pool -> resources and placement; the table of ``pools.yaml`` and additional pools of a site."""
    placement: dict[str, str] = Field(default=PLACEMENT)
    """Kind of step -> its pool."""
    store: StoreAddress = "s3://mm1/store"
    """Address of the object store; the default of every workflow's parameter `store`."""
    accounts: Accounts = Accounts()
    """Service accounts of the pods."""
    environment_secret: OptionalName = "mm1-store"
    """Secret whose keys become environment variables of the pods (credentials of the store); empty = none."""
    environment: dict[VariableName, str] = Field(default={})
    """Environment variables of every pod; must not contain secrets."""
    volumes: tuple[ClaimMount, ...] = ()
    """Claims that every pod mounts read-only."""
    signing_secret: OptionalName = ""
    """Secret with the private key that signs models; pods of the step `deploy` mount it at /etc/mm1/sign; empty = none."""
    serving_secret: OptionalName = ""
    """Secret with the API key of the served model, under `api-key`; pods of the step `rollout` have it as MM1_API_KEY; empty =
    none is needed."""
    notify_secret: OptionalName = ""
    """Secret with the address of a webhook under `url`, and optionally that of a run in a UI under `link`; pods of the step
    `report` post a message about the run to it; empty = none."""
    queue: OptionalName = ""
    """Kueue's LocalQueue for training; empty = no queue."""
    priority: OptionalName = ""
    """Kueue's WorkloadPriorityClass of trainings in the queue; empty = that of the pods."""
    retries: Retries = Retries()
    """Maximum numbers of retries."""
    archive_logs: bool = True
    """Archive the steps' logs in Argo's artifact repository, so that they outlive the pods."""
    run_seconds: int | None = Field(default=None, ge=1)
    """Maximum duration of a run, of a training step in it, and of the step's JobSet, in seconds; empty = no limit."""
    lease_seconds: int = Field(default=LEASE_S, ge=60)
    """Seconds for which ranks continue without a supervisor; then they save a checkpoint and end."""
    metrics_port: int | None = Field(default=METRICS_PORT, ge=1, le=65535)
    """Port of training supervisors for metrics in Prometheus' format; empty = none."""
    log_format: LogFormat = "text"
    """Log of steps and ranks: text, or json, which is one object per line for log collectors."""
    traces: str = Field(default="", pattern=r"^(https?://[^\s/@]+(/\S*)?)?$")
    """Address of a collector of OpenTelemetry, such as http://collector.monitoring:4318, to which the pods of steps send traces
    (OTLP over HTTP); empty = none."""

    @model_validator(mode="after")
    def _check(self) -> Profile:
        for kind, name in self.placement.items():
            if kind not in PLACEMENT:
                raise ValueError(f"placement: unknown kind of step {kind!r}; {suggest(kind, list(PLACEMENT))}")
            if name not in self.pools:
                raise ValueError(f"placement.{kind}: no pool {name!r}; {suggest(name, list(self.pools))}")
        for name, pool in self.pools.items():
            if pool.image not in self.images:
                raise ValueError(f"pools.{name}.image: no image {pool.image!r}; {suggest(pool.image, list(self.images))}")
        if self.priority and not self.queue:
            raise ValueError(f"priority: {self.priority!r} orders trainings in a queue; set queue too")
        taken = dict.fromkeys(RESERVED_PATHS, "by every container")
        for number, mount in enumerate(self.volumes):
            path = posixpath.normpath(f"/{mount.mount_path.lstrip('/')}")
            if path in taken:
                raise ValueError(
                    f"volumes.{number}.mount_path: {mount.mount_path!r} is already used {taken[path]}; choose another path"
                )
            taken[path] = f"by volumes.{number} ({mount.claim})"
        return self

    def placed(self, kind: str) -> str:
        """Return the name of the pool for a kind of step; the name of a pool is returned unchanged.

        Raises:
            ConfigurationError: neither a kind of step nor a pool.
        """
        if kind in self.placement:
            return self.placement[kind]
        self.pool(kind)
        return kind

    def pool(self, name: str) -> Pool:
        """Return a pool by name.

        Raises:
            ConfigurationError: it does not exist.
        """
        if name not in self.pools:
            raise ConfigurationError(f"profile {self.name}: no pool {name!r}; {suggest(name, list(self.pools))}")
        return self.pools[name]

    def account(self, role: str) -> str:
        """Return the service account of a role.

        Raises:
            ConfigurationError: there is no such role.
        """
        accounts = self.accounts.model_dump()
        if role not in accounts:
            raise ConfigurationError(f"step account: no role {role!r}; {suggest(role, list(accounts))}")
        return str(accounts[role])

    def image(self, name: str) -> str:
        """Return an image by name.

        Raises:
            ConfigurationError: it does not exist.
        """
        if name not in self.images:
            raise ConfigurationError(f"profile {self.name}: no image {name!r}; {suggest(name, list(self.images))}")
        return self.images[name]


def pools_table() -> dict[str, Any]:
    """Return the table of node pools; infrastructure code and the chart read the same file."""
    table: dict[str, Any] = yaml.safe_load(POOLS.read_text())["pools"]
    return table


@cache
def default() -> Profile:
    """Return the profile of the committed YAML."""
    return validate(Profile, {"pools": pools_table()}, POOLS.name)


_current: ContextVar[Profile | None] = ContextVar("profile", default=None)


def current() -> Profile:
    """Return the profile with which workflow files are being built."""
    return _current.get() or default()


@contextmanager
def using(profile: Profile) -> Iterator[Profile]:
    """Use a profile for building workflow files inside the block."""
    token = _current.set(profile)
    try:
        yield profile
    finally:
        _current.reset(token)


def read(name: str) -> Profile:
    """Read a profile by name (``default``, or another one of this package) or from a YAML file.

    A file only contains the differences from the default profile; maps are merged, other values are replaced.

    Raises:
        ConfigurationError: no such name or file, or an invalid field.
    """
    if name == "default":
        return default()
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json"):
        known = {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if path not in (POOLS, MACHINES)}
        if name not in known:
            suggestion = suggest(name, ["default", *known])
            raise ConfigurationError(f"unknown profile {name!r}: {suggestion}; or give a YAML file")
        path = known[name]
    given = yaml_file.read_map(path, f"profile {name}")
    base = default().model_dump(mode="json") | {"name": path.stem}
    return validate(Profile, _merged(base, given), f"profile {name}")


def _merged(base: Any, given: Any) -> Any:
    if isinstance(base, dict) and isinstance(given, dict):
        return base | {key: _merged(base.get(key), value) for key, value in given.items()}
    return given
