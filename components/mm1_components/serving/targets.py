"""The kinds of objects that serve on a cluster; a rollout does the same with each."""

from __future__ import annotations

from typing import Literal

from mm1_components.serving.deployments import DeploymentCluster
from mm1_components.serving.inference_services import InferenceServiceCluster
from mm1_components.serving.objects import ServingNamespace
from mm1_components.serving.state import Cluster

Kind = Literal["deployment", "kserve"]


def cluster_of(kind: Kind, name: str) -> Cluster:
    """Return what serves in the namespace of this pod.

    Args:
        kind: deployment = a Deployment and its canary; kserve = an InferenceService, whose canary KServe makes.
        name: name of the Deployment or the InferenceService.

    Raises:
        ConfigurationError: this process does not run in a pod.
    """
    namespace = ServingNamespace.of_this_pod()
    return InferenceServiceCluster(namespace, name) if kind == "kserve" else DeploymentCluster(namespace, name)
