"""What NetworkPolicies allow, worked out from the objects: for clusters whose network does not enforce them.

Follows the API's rules: a pod that no policy of a direction selects is open in that direction; otherwise a connection must be
allowed by a rule of one of them. A connection between two pods needs both ends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod (labels, namespace), or an address outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "here"
    address: str = ""


def may_connect(policies: Sequence[Policy], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is allowed by the policies of the namespace `here`."""
    return _allowed(policies, "Egress", source, target, port, protocol) and _allowed(
        policies, "Ingress", target, source, port, protocol
    )


def _allowed(policies: Sequence[Policy], direction: str, own: End, other: End, port: int, protocol: str) -> bool:
    if own.address or own.namespace != "here":
        return True  # not ours to restrict
    specs = [policy["spec"] for policy in policies if direction in policy["spec"]["policyTypes"]]
    bound = [spec for spec in specs if _selects(spec["podSelector"], own.labels)]
    if not bound:
        return True
    peers = "to" if direction == "Egress" else "from"
    rules = [rule for spec in bound for rule in spec.get(direction.lower()) or []]
    return any(_port(rule.get("ports"), port, protocol) and _peer(rule.get(peers), other) for rule in rules)


def _port(ports: Sequence[Mapping[str, Any]] | None, port: int, protocol: str) -> bool:
    return not ports or any(one.get("protocol", "TCP") == protocol and one.get("port", port) == port for one in ports)


def _peer(peers: Sequence[Mapping[str, Any]] | None, other: End) -> bool:
    return not peers or any(_is(peer, other) for peer in peers)


def _is(peer: Mapping[str, Any], other: End) -> bool:
    if block := peer.get("ipBlock"):
        if not other.address:
            return False
        address = ipaddress.ip_address(other.address)
        outside = any(address in ipaddress.ip_network(net) for net in block.get("except", []))
        return address in ipaddress.ip_network(block["cidr"]) and not outside
    if other.address:
        return False
    if "namespaceSelector" in peer:
        right_namespace = _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        right_namespace = other.namespace == "here"
    return right_namespace and _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    exist = [one["key"] for one in selector.get("matchExpressions") or [] if one["operator"] == "Exists"]
    return all(labels.get(key) == value for key, value in wanted.items()) and all(key in labels for key in exist)
