"""What KServe would do with an InferenceService in its Standard mode, on the small API of :mod:`tests.support.kube_api`.

It makes a Deployment of the predictor and of each canary, which has the rest of the predictor, as KServe 0.21 does. The
controller of Deployments is that of :mod:`tests.support.serving_controller`.
"""

from __future__ import annotations

import copy

from mm1_components.serving.names import TRACK_LABEL
from tests.support.kube_api import KubeApi, Object
from tests.support.serving_controller import LABELS, Controller

NAME = "mm1-serve"


def inference_service(model: str = "", replicas: int = 1) -> Object:
    """The InferenceService of the chart."""
    variable = {"name": "MM1_MODEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['mm1.dev/model']"}}}
    predictor: Object = {
        "minReplicas": replicas,
        "labels": LABELS | {TRACK_LABEL: "stable"},
        "serviceAccountName": "mm1-serve",
        "model": {"modelFormat": {"name": "mm1"}, "runtime": NAME, "env": [variable]},
    }
    if model:
        predictor["annotations"] = {"mm1.dev/model": model}
    annotations = {"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "none"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": NAME, "uid": "uid-serve", "generation": 1, "resourceVersion": "1", "annotations": annotations},
        "spec": {"predictor": predictor},
    }


class KServeController(Controller):
    """Reconciles an InferenceService, its Deployments and their pods before every request."""

    def __init__(self, api: KubeApi) -> None:
        super().__init__(api)
        self.templates: list[Object] = []
        """Metadata of all pod templates that the served Deployment had."""
        self.weights: list[int] = []
        """All shares of the requests that a canary had."""

    def serve(self, model: str = "", replicas: int = 1) -> None:
        """Add the objects of the chart."""
        self.api.put("inferenceservices", inference_service(model, replicas))
        self.api.put("configmaps", {"metadata": {"name": f"{NAME}-rollout"}})

    @property
    def service(self) -> Object:
        """The InferenceService."""
        return self.api.objects["inferenceservices", NAME]

    @property
    def journal(self) -> dict[str, str]:
        """What a rollout has left in its ConfigMap."""
        return dict(self.api.objects["configmaps", f"{NAME}-rollout"].get("data") or {})

    def reconcile(self) -> None:
        """Bring the Deployments to what the InferenceService says, and the pods to what they say."""
        if self.api.of("inferenceservices"):
            spec = self.service["spec"]
            canaries = spec.get("canary") or []
            assert all(each["predictor"]["minReplicas"] <= spec["predictor"]["minReplicas"] for each in canaries)
            wanted = {f"{NAME}-predictor": spec["predictor"]}
            for each in canaries:
                wanted[f"{NAME}-{each['predictor']['name']}-predictor"] = spec["predictor"] | each["predictor"]
                self.weights += [each["trafficPercent"]] if self.weights[-1:] != [each["trafficPercent"]] else []
            for name in [item["metadata"]["name"] for item in self.api.of("deployments")]:
                if name not in wanted:
                    del self.api.objects["deployments", name]
            for name, predictor in wanted.items():
                self._deploy(name, predictor)
            uids = [each["predictor"]["annotations"]["mm1.dev/canary"] for each in canaries]
            self.canaries += [uid for uid in uids if uid not in self.canaries]
            self.at_once = max(self.at_once, len(canaries))
        super().reconcile()

    def _deploy(self, name: str, predictor: Object) -> None:
        annotations = self.service["metadata"]["annotations"] | (predictor.get("annotations") or {})
        metadata = {"labels": predictor["labels"] | {"app": f"isvc.{name}"}, "annotations": annotations}
        port = {"name": "http", "containerPort": 8000}
        container = {"name": "kserve-container", "env": predictor["model"]["env"], "ports": [port]}
        template = {"metadata": metadata, "spec": {"containers": [container]}}
        if name == f"{NAME}-predictor" and metadata not in self.templates[-1:]:
            self.templates.append(copy.deepcopy(metadata))
        self.api.put(
            "deployments",
            {"metadata": {"name": name, "generation": 1}, "spec": {"replicas": predictor["minReplicas"], "template": template}},
        )

    def status(self, model: str) -> Object:
        """The status of a pod of a model, whose container has the name that KServe asks for."""
        status = super().status(model)
        status["containerStatuses"][0]["name"] = "kserve-container"
        return status
