r"""The cluster that serves, through the Kubernetes API: two Deployments, their pods, and the weights of an HTTPRoute, if any.

::

    Deployment mm1-serve         annotation mm1.dev/model of the pod template = model, mm1.dev/rollout = journal
    Deployment mm1-serve-canary  a copy with another model, owned by mm1-serve, so that it never outlives it
    HTTPRoute mm1-serve          weights of the Services mm1-serve-stable and mm1-serve-canary

The Service of mm1-serve selects the pods of both. The service account needs the permissions of ``mm1-rollout`` in the chart.
"""

from __future__ import annotations

import copy

from mm1.config.resolve import canonical_json
from mm1.errors import ConfigurationError
from mm1.store.base import digest_of
from mm1_components.kube.pods import Object
from mm1_components.serving.names import (
    APPS,
    BY_ANNOTATION,
    CANARY,
    GATEWAY,
    JOURNAL_ANNOTATION,
    MODEL_ANNOTATION,
    MODEL_VARIABLE,
    ROUTE_ANNOTATION,
    SOURCE_ANNOTATION,
    STABLE,
    TRACK_LABEL,
    canary_name,
)
from mm1_components.serving.objects import (
    MANAGER,
    ServingNamespace,
    annotations_of,
    container_of,
    is_complete,
    journal_in,
    pod_of,
    tell,
)
from mm1_components.serving.state import Canary, Journal, Pod, Served


class DeploymentCluster:
    """A Deployment that serves, and its canary."""

    def __init__(self, namespace: ServingNamespace, deployment: str) -> None:
        """Set the namespace and the name of the Deployment."""
        self.namespace, self.name = namespace, deployment

    # -- what is served ---------------------------------------------------------------------------------------

    def served(self) -> Served:
        """Return what is served."""
        live = self._live()
        replicas = int(live["spec"].get("replicas", 1))
        text = annotations_of(live).get(JOURNAL_ANNOTATION, "")
        return Served(
            model=annotations_of(live["spec"]["template"]).get(MODEL_ANNOTATION, ""),
            replicas=replicas,
            is_complete=is_complete(live, replicas),
            journal=journal_in(text),
        )

    def set_model(self, model: str, journal: Journal | None) -> None:
        """Set the served model and the journal at once."""
        template = {"metadata": {"annotations": {MODEL_ANNOTATION: model or None}}}
        self._patch({"metadata": _journal_change(journal), "spec": {"template": template}})

    def set_journal(self, journal: Journal | None) -> None:
        """Set the journal alone."""
        self._patch({"metadata": _journal_change(journal)})

    def _patch(self, body: Object) -> None:
        path = self.namespace.path(APPS, "deployments", self.name)
        if self.namespace.ask("PATCH", path, f"changing Deployment {self.name}", MANAGER, body) is None:
            raise self._missing()

    def _live(self) -> Object:
        path = self.namespace.path(APPS, "deployments", self.name)
        live = self.namespace.ask("GET", path, f"Deployment {self.name}")
        if live is None:
            raise self._missing()
        variables = [each["name"] for each in container_of(live["spec"]["template"]["spec"]).get("env") or []]
        if MODEL_VARIABLE not in variables:
            raise ConfigurationError(
                f"Deployment {self.name} gets its model from its arguments (the chart's serving.model), so a rollout cannot "
                "set it: set serving.rollout.enabled=true and an empty serving.model in the chart's values and upgrade it"
            )
        return live

    def tell(self, action: str, message: str) -> None:
        """Write an Event about the Deployment, if that is possible.

        Args:
            action: of the record: promoted, rolled back or refused.
            message: one sentence.
        """
        tell(self.namespace, APPS, "Deployment", self._live, action, message)

    def _missing(self) -> ConfigurationError:
        return ConfigurationError(
            f"deployment_name: namespace {self.namespace.namespace} has no Deployment {self.name!r}: set serving.enabled=true "
            "in the chart's values, or leave deployment_name empty to record the promotion only"
        )

    # -- the canary -------------------------------------------------------------------------------------------

    def canary(self) -> Canary | None:
        """Return the canary; None if there is none."""
        name = canary_name(self.name)
        canary = self.namespace.ask("GET", self.namespace.path(APPS, "deployments", name), f"Deployment {name}")
        if canary is None:
            return None
        annotations = annotations_of(canary)
        return Canary(
            uid=canary["metadata"]["uid"],
            model=annotations_of(canary["spec"]["template"]).get(MODEL_ANNOTATION, ""),
            by=annotations.get(BY_ANNOTATION, ""),
            is_current=annotations.get(SOURCE_ANNOTATION) == _source(self._live()),
            is_ending="deletionTimestamp" in canary["metadata"],
        )

    def start_canary(self, model: str, by: str, replicas: int) -> None:
        """Create the canary; nothing if there is one already."""
        live = self._live()
        body = canary_of(live, model, by, replicas)
        try:
            self.namespace.ask("POST", self.namespace.path(APPS, "deployments"), "creating the canary", MANAGER, body)
        except FileExistsError:
            return

    def remove_canary(self, canary: Canary) -> None:
        """Delete this canary, but not another one of the same name."""
        path = self.namespace.path(APPS, "deployments", canary_name(self.name))
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": canary.uid}}
        self.namespace.ask("DELETE", path, "deleting the canary", body=body)

    def set_canary_weight(self, percent: int) -> None:
        """Set the canary's share of the requests, where the Deployment names a route with weights."""
        route = annotations_of(self._live()).get(ROUTE_ANNOTATION)
        if not route:
            return
        path, what = self.namespace.path(GATEWAY, "httproutes", route), f"HTTPRoute {route}"
        live = self.namespace.ask("GET", path, what)
        if live is None:
            raise ConfigurationError(f"{what} does not exist: upgrade the chart, which makes it if serving.gateway.enabled")
        rules = copy.deepcopy(live["spec"].get("rules") or [])
        weights = {f"{self.name}-{CANARY}": percent, f"{self.name}-{STABLE}": 100 - percent}
        for backend in (backend for rule in rules for backend in rule.get("backendRefs") or []):
            backend["weight"] = weights.get(backend["name"], backend.get("weight", 1))
        if rules != live["spec"].get("rules"):
            self.namespace.ask("PATCH", path, f"weights of {what}", MANAGER, {"spec": {"rules": rules}})

    # -- pods -------------------------------------------------------------------------------------------------

    def pods(self, model: str, *, of_canary: bool) -> list[Pod]:
        """Return the pods of a model that are not ending, of the canary or of the others."""
        labels = self._live()["spec"]["selector"]["matchLabels"] | {TRACK_LABEL: CANARY if of_canary else STABLE}
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        pods = self.namespace.objects("v1", "pods", selector, "pods that serve")
        current = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return [pod_of(pod) for pod in current if annotations_of(pod).get(MODEL_ANNOTATION, "") == model]


def canary_of(live: Object, model: str, by: str, replicas: int) -> Object:
    """Build the canary: a copy of the Deployment that serves, with another model, track and name, which that owns.

    Args:
        live: the Deployment that serves.
        model: address of the model.
        by: the rollout.
        replicas: number of pods.
    """
    metadata, spec = live["metadata"], copy.deepcopy(live["spec"])
    template = spec["template"]
    template["metadata"] = {
        "labels": (template["metadata"].get("labels") or {}) | {TRACK_LABEL: CANARY},
        "annotations": annotations_of(template) | {MODEL_ANNOTATION: model},
    }
    spec |= {"replicas": replicas, "revisionHistoryLimit": 0}
    spec["selector"] = {"matchLabels": spec["selector"]["matchLabels"] | {TRACK_LABEL: CANARY}}
    owner = {"apiVersion": APPS, "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": APPS,
        "kind": "Deployment",
        "metadata": {
            "name": canary_name(metadata["name"]),
            "labels": {"app.kubernetes.io/part-of": "mm1", TRACK_LABEL: CANARY},
            "annotations": {BY_ANNOTATION: by, SOURCE_ANNOTATION: _source(live)},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _source(live: Object) -> str:
    """Return the digest of the pod template without its model."""
    template = copy.deepcopy(live["spec"]["template"])
    (template["metadata"].get("annotations") or {}).pop(MODEL_ANNOTATION, None)
    if not template["metadata"].get("annotations"):
        template["metadata"].pop("annotations", None)
    return digest_of(canonical_json(template).encode())[:16]


def _journal_change(journal: Journal | None) -> Object:
    return {"annotations": {JOURNAL_ANNOTATION: journal.model_dump_json() if journal else None}}
