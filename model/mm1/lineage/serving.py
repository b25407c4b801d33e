"""What is served, and the log of how that changed: one folder per target in the store.

::

    serving/<target>/current.json                   what is served now
    serving/<target>/log/<time>-<digest>.json       every promotion, rollback and refusal, never changed: the audit log

A *target* is a place that serves one model at a time, such as the chart's release in a namespace. The pointer is written after
the model answers there, and the log before the pointer, so that no promotion is without its entry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mm1.config.resolve import explain
from mm1.errors import ConfigurationError, DataError
from mm1.store.base import Store, digest_of

PREFIX = "serving/"
DEFAULT_TARGET = "mm1"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
Action = Literal["promoted", "rolled back", "refused"]


class Change(BaseModel):
    """A change, or an attempt at one, of what a target serves."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    action: Action
    """promoted: the target serves `deployment`; rolled back: it serves `deployment` again, which it served before; refused:
    `deployment` was tried and not promoted."""
    deployment: str
    """Digest of the Deployment manifest."""
    before: str = ""
    """Digest of the Deployment that was served before; empty = none."""
    time: AwareDatetime
    by: str
    """Run, or user, that did it."""
    reason: str
    analysis: dict[str, Any] = {}
    """What the canary was asked and did, with its figures."""


def check_target(target: str) -> None:
    """Check the name of a target.

    Raises:
        ConfigurationError: not the name of a Kubernetes object.
    """
    if not _NAME.fullmatch(target):
        raise ConfigurationError(f"target: expected lower-case letters, digits and '-', at most 53, got {target!r}")


def current(store: Store, target: str) -> Change | None:
    """Return the change by which a target got the model that it serves; None if it serves none.

    Raises:
        DataError: the pointer is damaged.
    """
    key = _current(target)
    content = store.read_json(key)
    return None if content is None else _read(store, key, content)


def history(store: Store, target: str) -> list[Change]:
    """Return all changes of a target, oldest first.

    Raises:
        DataError: an entry is damaged.
    """
    return [_read(store, key, store.read_json(key)) for key in sorted(store.list(f"{PREFIX}{target}/log/"))]


def targets(store: Store) -> list[str]:
    """Return the targets with a log."""
    return sorted({key.split("/")[1] for key in store.list(PREFIX) if "/log/" in key})


def in_order(changes: Sequence[Change]) -> list[Change]:
    """Return the changes to go back through, oldest first: the last one is of what is served, the one before of what was.

    A model that was promoted and rolled back is not among them.

    Args:
        changes: history of a target, oldest first.
    """
    stack: list[Change] = []
    for change in changes:
        if change.action == "promoted" and not (stack and stack[-1].deployment == change.deployment):
            stack.append(change)
        elif change.action == "rolled back":
            while stack and stack[-1].deployment != change.deployment:
                stack.pop()
            stack = stack or [change]
    return stack


def previous(store: Store, target: str) -> str:
    """Return the digest of the Deployment to which a rollback goes; empty if there is none."""
    stack = in_order(history(store, target))
    return stack[-2].deployment if len(stack) > 1 else ""


def kept(store: Store) -> set[str]:
    """Return the digests of the Deployments that all targets serve and can roll back to."""
    digests = set()
    for target in targets(store):
        digests |= {change.deployment for change in in_order(history(store, target))[-2:]}
        digests |= {change.deployment for change in [current(store, target)] if change}
    return digests


def record(store: Store, target: str, change: Change) -> None:
    """Add a change to the log of a target, and set what it serves unless the change is a refusal."""
    check_target(target)
    content = change.model_dump(mode="json")
    time = change.time.strftime("%Y%m%dT%H%M%S.%fZ")
    store.write_json(f"{PREFIX}{target}/log/{time}-{digest_of(change.model_dump_json().encode())[:12]}.json", content)
    if change.action != "refused":
        store.write_json(_current(target), content)


def _current(target: str) -> str:
    check_target(target)
    return f"{PREFIX}{target}/current.json"


def _read(store: Store, key: str, content: Any) -> Change:
    try:
        return Change.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{store.uri}/{key} is damaged: {explain(error)[:200]}; restore it from a backup") from None
