"""What Kubernetes would do with the Deployments that serve, on the small API of :mod:`tests.support.kube_api`.

Pods of a Deployment appear, are ready at once, and are replaced when its pod template changes. All are served from this
machine: the test gives each model the port of a server, or the exit code with which its server ends.
"""

from __future__ import annotations

import copy
from typing import Any

from mm1_components.serving.names import MODEL_ANNOTATION, TRACK_LABEL
from tests.support.kube_api import KubeApi, Object

LABELS = {"app.kubernetes.io/name": "mm1", "app.kubernetes.io/component": "serving"}


def deployment(model: str = "", replicas: int = 1, **annotations: str) -> Object:
    """The Deployment of the chart with rollouts."""
    variable = {"name": "MM1_MODEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['mm1.dev/model']"}}}
    container: Object = {
        "name": "main",
        "image": "trainer",
        "args": ["--model=$(MM1_MODEL)"],
        "env": [variable],
        "ports": [{"name": "http", "containerPort": 8000}],
    }
    template: Object = {
        "metadata": {"labels": LABELS | {TRACK_LABEL: "stable"}},
        "spec": {"serviceAccountName": "mm1-serve", "containers": [container]},
    }
    if model:
        template["metadata"]["annotations"] = {MODEL_ANNOTATION: model}
    helm = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "mm1"}
    return {
        "metadata": {
            "name": "mm1-serve",
            "uid": "uid-serve",
            "generation": 1,
            "labels": helm,
            "annotations": dict(annotations),
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": dict(LABELS)}, "template": template},
    }


class Controller:
    """Reconciles Deployments and pods before every request."""

    def __init__(self, api: KubeApi) -> None:
        self.api, self.made = api, 0
        self.ports: dict[str, int] = {}
        """Model -> port of its server."""
        self.exit_codes: dict[str, int] = {}
        """Model -> exit code of its server, for models that cannot be served."""
        self.canaries: list[str] = []
        """Uids of all canaries that there were."""
        self.at_once = 0
        """Largest number of canaries at a time."""
        api.on_request = lambda _: self.reconcile()

    def reconcile(self) -> None:
        """Bring the pods to what the Deployments say."""
        deployments = {item["metadata"]["name"]: item for item in self.api.of("deployments")}
        canaries = [item["metadata"]["uid"] for name, item in deployments.items() if name.endswith("-canary")]
        self.canaries += [uid for uid in canaries if uid not in self.canaries]
        self.at_once = max(self.at_once, len(canaries))
        for pod in self.api.of("pods"):
            owner = deployments.get(pod["owner"])
            if owner is None or pod["template"] != owner["spec"]["template"]:
                del self.api.objects["pods", pod["metadata"]["name"]]
        for name, item in deployments.items():
            pods = [pod for pod in self.api.of("pods") if pod["owner"] == name]
            for _ in range(item["spec"]["replicas"] - len(pods)):
                self.start(name, item["spec"]["template"])
            ready = sum(pod["status"]["phase"] == "Running" for pod in self.api.of("pods") if pod["owner"] == name)
            counts = {"replicas": item["spec"]["replicas"], "updatedReplicas": item["spec"]["replicas"]}
            item["status"] = counts | {"availableReplicas": ready, "readyReplicas": ready}
            item["status"]["observedGeneration"] = item["metadata"].get("generation", 0)

    def start(self, owner: str, template: Object) -> None:
        """Start a pod."""
        self.made += 1
        metadata = copy.deepcopy(template["metadata"]) | {"name": f"{owner}-{self.made}", "uid": f"uid-{self.made}"}
        spec = copy.deepcopy(template["spec"])
        model = (metadata.get("annotations") or {}).get(MODEL_ANNOTATION, "")
        spec["containers"][0]["ports"][0]["containerPort"] = self.ports.get(model, 1)
        body: Object = {"metadata": metadata, "spec": spec, "status": self.status(model)}
        self.api.put("pods", body | {"owner": owner, "template": copy.deepcopy(template)})

    def status(self, model: str) -> dict[str, Any]:
        """The status of a pod of a model."""
        code = self.exit_codes.get(model, 0 if model else 80)
        if code:
            state = {"terminated": {"exitCode": code, "reason": "Error"}}
            return {"phase": "Pending", "podIP": "127.0.0.1", "containerStatuses": [{"name": "main", "state": state}]}
        ready = [{"type": "Ready", "status": "True"}]
        return {"phase": "Running", "podIP": "127.0.0.1", "conditions": ready, "containerStatuses": [{"name": "main"}]}
