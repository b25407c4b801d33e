"""Names, labels and annotations of what serves on a cluster; the chart renders the same."""

from __future__ import annotations

APPS = "apps/v1"
GATEWAY = "gateway.networking.k8s.io/v1"
KSERVE = "serving.kserve.io/v1beta1"

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

CANARY_ANNOTATION = "mm1.dev/canary"
"""Of the canary of an InferenceService, which has no uid: an identifier that no other one has."""

TRACK_LABEL = "mm1.dev/track"
STABLE, CANARY = "stable", "canary"
"""Values of the label; also the ends of the names of the Services that an HTTPRoute has weights for."""
CONTAINERS, PORT = ("main", "kserve-container"), "http"
"""Names of the server's container, the second one of KServe, and of its port."""


def canary_name(deployment: str) -> str:
    """Return the name of the canary of a Deployment."""
    return f"{deployment}-{CANARY}"


def predictor_name(service: str, predictor: str = "") -> str:
    """Return the name of the Deployment that KServe makes for a predictor of an InferenceService."""
    return "-".join(filter(None, (service, predictor, "predictor")))


def state_name(service: str) -> str:
    """Return the name of the ConfigMap in which a rollout keeps what it has begun to do to an InferenceService."""
    return f"{service}-rollout"
