"""``mm1 rollout``: what is served, and how that changed; promote a model, or roll back.

Without options of a cluster, promotions and rollbacks are only recorded in the store: ``mm1 serve`` serves what is recorded.
With ``-n``, ``--context`` or ``--server`` they run on the cluster, as a run of the chart's workflow ``mm1-rollout``, whose
store has the record.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from cappa import Arg, Subcommands, command

from mm1.errors import ConfigurationError, Mm1Error
from mm1.lineage import serving
from mm1.lineage.graph import resolve
from mm1.lineage.serving import Action, Change
from mm1.manifests import MANIFEST_NAME, Deployment, load_digest
from mm1.store.base import Store
from mm1_components.serving.record import StoreLog, address_of, before, record_only
from mm1_workflows.cli.commands.rollout_cluster import DEPLOYMENT, submit, template_store, view_of
from mm1_workflows.cli.options import (
    DEFAULT_STORE,
    ClusterOptions,
    FromLine,
    LogsArg,
    ParameterArg,
    StoreArg,
    WatchArg,
    complete_run,
    existing_store,
)
from mm1_workflows.cli.output import console, plain, say, table

MODEL = "A run; or a Deployment by address or digest (or its beginning; on a cluster the whole digest)."
JsonArg = Annotated[bool, Arg(long=True, help="Print JSON.")]


@dataclass(kw_only=True)
class RolloutOptions(ClusterOptions):
    """Options of all subcommands."""

    target: Annotated[str, Arg(long=True, value_name="NAME", help="Serving target, whose record is in the store.")] = (
        serving.DEFAULT_TARGET
    )
    store: StoreArg = DEFAULT_STORE

    @property
    def is_on_cluster(self) -> bool:
        """Whether a cluster is given."""
        return bool(self.namespace or self.context or self.server)

    def record_store(self) -> Store:
        """Return the store with the record; on a cluster, that of its workflow unless another one is given."""
        serving.check_target(self.target)
        if self.is_on_cluster and self.store == DEFAULT_STORE:
            return existing_store(template_store(self))
        return existing_store(self.store)


@dataclass(kw_only=True)
class ClusterDeployment(RolloutOptions):
    """Option for the Deployment of the cluster."""

    deployment: Annotated[str, Arg(long=True, value_name="NAME", help="Deployment of the cluster that serves.")] = DEPLOYMENT


@command(name="status", help="Print what is recorded as served, and what a cluster serves.")
@dataclass
class RolloutStatus(ClusterDeployment):
    """``mm1 rollout status``."""

    json: JsonArg = False

    def __call__(self) -> int:
        """Print the record, and with options of a cluster what that serves and what a rollout is doing."""
        view = view_of(self, self.deployment) if self.is_on_cluster else None
        current, previous, problem = None, "", ""
        try:
            store = self.record_store()
            current, previous = serving.current(store, self.target), serving.previous(store, self.target)
        except Mm1Error as error:
            if view is None:
                raise
            problem = str(error)  # the record may be in a bucket that this machine has no credentials for
        if self.json:
            tree: dict[str, Any] = {"record": current and current.model_dump(mode="json"), "previous": previous}
            say(console(), json.dumps(tree | ({"cluster": view.facts()} if view else {}), indent=1))
            return 0
        lines = [f"record of {self.target}: {problem or _describe(current)}"]
        lines += [f"a rollback goes to {previous[:12]}"] if previous else []
        if view:
            recorded = None if problem else current.deployment if current else ""
            lines += view.lines(recorded)
        for line in lines:
            say(console(), line)
        return 0


@command(name="history", help="List promotions, rollbacks and refusals, newest first.")
@dataclass
class RolloutHistory(RolloutOptions):
    """``mm1 rollout history``."""

    json: JsonArg = False

    def __call__(self) -> int:
        """List the changes of a target."""
        store = self.record_store()
        changes = serving.history(store, self.target)[::-1]
        if self.json:
            say(console(), json.dumps([change.model_dump(mode="json") for change in changes], indent=1))
            return 0
        if not changes:
            say(console(), f"no rollouts of {self.target} in {store.uri}")
            return 0
        listing = table("time (UTC)", "change", "deployment", "before", "by", "why", less_important=("before", "by"))
        for change in changes:
            digests = change.deployment[:12], change.before[:12]
            listing.add_row(f"{change.time:%Y-%m-%d %H:%M:%S}", change.action, *digests, plain(change.by), plain(change.reason))
        console().print(listing)
        return 0


@command(name="promote", help="Serve a model: on a cluster after its canary passed, on one machine in the next mm1 serve.")
@dataclass
class RolloutPromote(ClusterDeployment):
    """``mm1 rollout promote``."""

    model: Annotated[str, Arg(value_name="model", help=MODEL, completion=FromLine(complete_run))]
    parameters: ParameterArg = field(default_factory=list)
    watch: WatchArg = False
    logs: LogsArg = False

    def __call__(self) -> int:
        """Submit the rollout, or record the promotion."""
        if self.is_on_cluster:
            return submit(self, self.target, self.deployment, "promote", self.model)
        return record(self, self.model, "promoted")


@command(name="rollback", help="Serve the model before, or a given one, at once and without a canary.")
@dataclass
class RolloutRollback(ClusterDeployment):
    """``mm1 rollout rollback``."""

    to: Annotated[str, Arg(long=True, value_name="MODEL", help=f"{MODEL[:-1]} [default: the model before].")] = ""
    parameters: ParameterArg = field(default_factory=list)
    watch: WatchArg = False
    logs: LogsArg = False

    def __call__(self) -> int:
        """Submit the rollback, or record it."""
        if self.is_on_cluster:
            return submit(self, self.target, self.deployment, "rollback", self.to)
        return record(self, self.to, "rolled back")


@command(name="rollout", help="Which model is served, on this machine or (with -n) on a cluster.")
@dataclass
class Command:
    """``mm1 rollout``."""

    subcommand: Subcommands[RolloutStatus | RolloutHistory | RolloutPromote | RolloutRollback]


def record(options: RolloutPromote | RolloutRollback, model: str, action: Action) -> int:
    """Record a promotion or rollback that no cluster has to make.

    Raises:
        ConfigurationError: there is no such model, or options that only a cluster has.
    """
    if options.parameters or options.watch or options.logs:
        raise ConfigurationError("-p, --watch and --logs are for a rollout on a cluster: add -n NAMESPACE")
    store = options.record_store()
    log = StoreLog(store, options.target, by=f"user {getpass.getuser()}")
    digest = _digest(store, model) if model else before(store, options.target, by="")
    manifest = load_digest(store, digest)
    if not isinstance(manifest, Deployment):
        raise ConfigurationError(f"{model}: expected a Deployment, the output of deploy, got {type(manifest).__name__}")
    change = record_only(log, manifest, address_of(store, digest), action, "by hand")
    say(console(), f"{options.target}: {_describe(change)}; `mm1 serve` serves it")
    return 0


def _digest(store: Store, model: str) -> str:
    """Return the digest of the Deployment that a run, an address or a digest names."""
    address = MANIFEST_NAME.match(model)
    digests = [address["digest"]] if address else resolve(store, model)
    if address and address["store"] != store.uri:
        raise ConfigurationError(f"{model} is not in {store.uri}: add --store {address['store']}")
    deployments = [digest for digest in digests if isinstance(load_digest(store, digest), Deployment)]
    return (deployments or digests)[-1]


def _describe(change: Change | None) -> str:
    if change is None:
        return "nothing has been promoted yet"
    return f"{change.deployment[:12]}, {change.action} {change.time:%Y-%m-%d %H:%M:%S} UTC by {change.by} ({change.reason})"
