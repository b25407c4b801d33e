"""Gates of a run that refused a model, and the rules that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mm1.errors import Mm1Error
from mm1.lineage.text import short_name
from mm1.manifests import GateDecision, load
from mm1.store.base import Store


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
