"""Names, labels and annotations of what serves on a cluster; the chart renders the same."""

from __future__ import annotations

APPS = "apps/v1"
GATEWAY = "gateway.networking.k8s.io/v1"

MODEL_ANNOTATION = "mm1.dev/model"
"""Of the pod template: address of the model. Each revision of the Deployment therefore has its own."""
MODEL_VARIABLE = "MM1_MODEL"
"""Environment variable of the server with that annotation; a Deployment that lacks it serves a model of its own arguments."""
JOURNAL_ANNOTATION = "mm1.dev/rollout"
"""Of the served Deployment: what a rollout has begun, as JSON."""
ROUTE_ANNOTATION = "mm1.dev/route"
"""Of the served Deployment: its HTTPRoute with weights; none without Gateway API."""
BY_ANNOTATION = "mm1.dev/by"
"""Of the canary: its rollout."""
SOURCE_ANNOTATION = "mm1.dev/copy-of"
"""Of the canary: digest of the pod template that it is a copy of."""

TRACK_LABEL = "mm1.dev/track"
STABLE, CANARY = "stable", "canary"
"""Values of the label; also the ends of the names of the Services that an HTTPRoute has weights for."""
CONTAINER, PORT = "main", "http"
"""Name of the server's container, and of its port."""


def canary_name(deployment: str) -> str:
    """Return the name of the canary of a Deployment."""
    return f"{deployment}-{CANARY}"
