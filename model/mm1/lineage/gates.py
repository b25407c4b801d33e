"""What the steps of a run decided, and why: retraining, gate, promotion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mm1.errors import Mm1Error
from mm1.lineage.text import short_name
from mm1.manifests import GateDecision, load
from mm1.store.base import Store


def decisions(store: Store, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each decision with a reason, and for each failed rule of a gate.

    Args:
        store: the store of the run.
        outputs: task -> its outputs.
    """
    yield from reasons(outputs)
    yield from failed_rules(store, outputs)


def reasons(outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each task with an output ``reason``: task, decision, reason.

    Args:
        outputs: task -> its outputs.
    """
    for task, values in outputs.items():
        if reason := values.get("reason"):
            promoted = {"true": "promoted", "false": "not promoted"}.get(str(values.get("promoted", "")).lower(), "")
            decision = str(values.get("decision") or promoted)
            yield ": ".join(filter(None, (short_name(task), decision, str(reason))))


def failed_rules(store: Store, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each failed rule: task, rule with its threshold, and the score.

    Args:
        store: the store of the run.
        outputs: task -> its outputs.
    """
    for task, values in outputs.items():
        if values.get("decision") != "fail" or not values.get("manifest"):
            continue
        address = str(values["manifest"])
        try:
            decision = load(address, GateDecision, store if address.startswith(f"{store.uri}/") else None)
        except Mm1Error as error:  # another step with these outputs, or a manifest that is gone
            yield f"{short_name(task)}: decision=fail; its rules cannot be read: {error}"
            continue
        for rule in decision.rules:
            if not rule.passed:
                yield f"{short_name(task)}: rule {rule.rule} failed: {rule.reason}"
