"""What is served, in the store: the log of a rollout, and promotions on one machine, where ``mm1 serve`` serves the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mm1.errors import ConfigurationError, DataError
from mm1.lineage import serving
from mm1.lineage.serving import Action, Change
from mm1.manifests import MANIFEST_NAME, Deployment, load_digest, manifest_key
from mm1.store.base import Store


@dataclass(frozen=True)
class StoreLog:
    """The log of one target, with models by their addresses."""

    store: Store
    target: str
    by: str
    """Run, or user, that changes it."""

    def current(self) -> str:
        """Return the address of the model that was promoted last; empty if there is none."""
        current = serving.current(self.store, self.target)
        return address_of(self.store, current.deployment) if current else ""

    def add(self, action: Action, model: str, before: str, reason: str, analysis: Mapping[str, Any]) -> None:
        """Record a change; nothing if an earlier attempt recorded it."""
        change = Change(
            action=action,
            deployment=digest_in(model),
            before=digest_in(before),
            time=datetime.now(UTC),
            by=self.by,
            reason=reason,
            analysis=dict(analysis),
        )
        if not self._is_recorded(change):
            serving.record(self.store, self.target, change)

    def _is_recorded(self, change: Change) -> bool:
        """Whether an earlier attempt recorded a change, in the log and, unless it is a refusal, as what is served."""
        last = serving.history(self.store, self.target)[-1:]
        is_in_log = [_without_time(each) for each in last] == [_without_time(change)]
        return is_in_log and (change.action == "refused" or serving.current(self.store, self.target) == last[0])


@dataclass(frozen=True)
class ToldLog(StoreLog):
    """A log of which somebody is told each change, after it is recorded."""

    tell: Callable[[str, str], None]
    """Takes the action and the reason."""

    def add(self, action: Action, model: str, before: str, reason: str, analysis: Mapping[str, Any]) -> None:
        """Record a change and tell it."""
        super().add(action, model, before, reason, analysis)
        self.tell(action, reason)


def _without_time(change: Change) -> tuple[str, ...]:
    return (change.action, change.deployment, change.before, change.by)


def address_of(store: Store, digest: str) -> str:
    """Return the address of a manifest in a store."""
    return f"{store.uri}/{manifest_key(digest)}"


def digest_in(address: str) -> str:
    """Return the digest in the address of a manifest; empty if it is not one."""
    match = MANIFEST_NAME.match(address)
    return match["digest"] if match else ""


def deployment_in(store: Store, address: str) -> Deployment:
    """Return the manifest of a model that can be served from a store.

    Args:
        store: the store with the record.
        address: address of the Deployment manifest, in this store.

    Raises:
        ConfigurationError: it is in another store, or another kind of manifest.
        DataError: it does not exist or is damaged.
    """
    match = MANIFEST_NAME.match(address)
    if match is None:
        raise ConfigurationError(
            f"deployment: expected a manifest's address (<store>/manifests/<sha256>.json), got {address!r}"
        )
    if match["store"] != store.uri and not store.exists(manifest_key(match["digest"])):
        raise ConfigurationError(f"deployment: {address} is not in {store.uri}, whose record names it: use its own store")
    manifest = load_digest(store, match["digest"])
    if not isinstance(manifest, Deployment):
        raise ConfigurationError(f"deployment: expected a Deployment, the output of deploy, got {type(manifest).__name__}")
    return manifest


def before(store: Store, target: str, by: str) -> str:
    """Return the digest of the Deployment to which a rollback goes.

    Args:
        store: the store with the record.
        target: the serving target.
        by: who rolls back; a rollback that it has recorded already is the same one.

    Raises:
        ConfigurationError: there is none.
    """
    last = serving.history(store, target)[-1:]
    is_recorded = [(each.action, each.by) for each in last] == [("rolled back", by)]
    digest = last[0].deployment if is_recorded else serving.previous(store, target)
    if not digest:
        raise ConfigurationError(
            f"target {target} in {store.uri}: no model was promoted before the current one: name one (mm1 rollout history)"
        )
    return digest


def record_only(log: StoreLog, deployment: Deployment, address: str, action: Action, reason: str) -> Change:
    """Record a promotion or rollback that no cluster has to make, and return the change that is in force.

    Raises:
        ConfigurationError: the gate refused the model, so it cannot be served.
    """
    if not deployment.deployed:
        raise ConfigurationError(f"deployment: {address} has no model: {deployment.reason}; name one that was deployed")
    if log.current() != address:
        log.add(action, address, log.current(), reason, {})
    current = serving.current(log.store, log.target)
    if current is None:
        raise DataError(f"{log.store.uri}: the record of target {log.target} was deleted meanwhile; try again")
    return current
