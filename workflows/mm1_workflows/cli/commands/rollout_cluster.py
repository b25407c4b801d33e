"""``mm1 rollout`` on a cluster: what it serves, and the run of the chart's workflow that changes it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME, manifest_key
from mm1_components.serving.names import (
    APPS,
    BY_ANNOTATION,
    CANARY,
    JOURNAL_ANNOTATION,
    KSERVE,
    MODEL_ANNOTATION,
    canary_name,
    predictor_name,
    state_name,
)
from mm1_workflows.argo.document import Document, parameters_of, spec_of
from mm1_workflows.cli.options import ClusterOptions
from mm1_workflows.cluster.transport.connect import connect
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport

DEPLOYMENT, WORKFLOW = "mm1-serve", "mm1-rollout"
"""Names of the chart's Deployment that serves, and of its workflow template."""


class Following(Protocol):
    """Options of a rollout on a cluster."""

    parameters: list[str]
    watch: bool
    logs: bool


@dataclass(frozen=True)
class Serving:
    """A Deployment that serves."""

    name: str
    model: str
    """Address of its model; empty = none yet."""
    ready: int
    replicas: int
    by: str = ""
    """The rollout of a canary."""

    def __str__(self) -> str:
        match = MANIFEST_NAME.match(self.model)
        model = match["digest"][:12] if match else self.model or "no model yet"
        by = f", by {self.by}" if self.by else ""
        return f"{self.name}: {model}, {self.ready} of {self.replicas} pods ready{by}"


@dataclass(frozen=True)
class View:
    """What a cluster serves."""

    served: Serving
    canary: Serving | None
    journal: dict[str, Any] | None
    """What a rollout has begun, or left."""

    def facts(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def lines(self, recorded: str | None = None) -> list[str]:
        """Describe it.

        Args:
            recorded: digest of the model that is recorded as served, to compare; None = unknown.
        """
        lines = [str(self.served), *([f"canary {self.canary}"] if self.canary else [])]
        match = MANIFEST_NAME.match(self.served.model)
        if self.journal:
            lines.append(f"{self.journal.get('by')} is {self.journal.get('phase')} {self.journal.get('model')}")
        elif recorded is not None and (match["digest"] if match else "") != recorded:
            lines.append(
                "the cluster serves another model than the record says, because somebody changed it without a rollout: promote "
                "the right one"
            )
        return lines


def view_of(options: ClusterOptions, deployment: str) -> View:
    """Return what a cluster serves, by a Deployment or, if it has none of that name, by an InferenceService.

    Raises:
        ConfigurationError: neither exists, or the cluster is only reached through Argo Server.
    """
    transport = connect(options)
    if not isinstance(transport, KubernetesTransport):
        raise ConfigurationError("Argo Server does not show Deployments: leave out --server, to use the kubeconfig")
    objects = {item["metadata"]["name"]: item for item in transport.objects(APPS, "deployments")}
    if deployment in objects:
        served, canary = objects[deployment], objects.get(canary_name(deployment))
        text = _annotations(served).get(JOURNAL_ANNOTATION, "")
        return View(_serving(served), _serving(canary) if canary else None, _journal(text))
    services = {item["metadata"]["name"]: item for item in transport.objects(KSERVE, "inferenceservices")}
    if deployment not in services:
        raise ConfigurationError(
            f"namespace {transport.namespace} has no Deployment and no InferenceService {deployment!r}; set --deployment"
        )
    spec = services[deployment]["spec"]
    canaries = [item["predictor"] for item in spec.get("canary") or [] if item["predictor"].get("name") == CANARY]
    states = [item for item in transport.objects("v1", "configmaps") if item["metadata"]["name"] == state_name(deployment)]
    text = str((states[0].get("data") or {}).get("rollout", "")) if states else ""
    views = [
        _predictor(name, predictor, objects.get(predictor_name(deployment, str(predictor.get("name") or ""))))
        for name, predictor in zip((deployment, canary_name(deployment)), (spec["predictor"], *canaries), strict=False)
    ]
    return View(views[0], views[1] if canaries else None, _journal(text))


def _journal(text: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(text)) if text else None
    except (ValueError, TypeError):
        return {"by": "an unknown rollout", "phase": "changing", "model": text}


def _predictor(name: str, predictor: Document, deployment: Document | None) -> Serving:
    annotations = predictor.get("annotations") or {}
    return Serving(
        name=name,
        model=annotations.get(MODEL_ANNOTATION, ""),
        ready=int(((deployment or {}).get("status") or {}).get("readyReplicas") or 0),
        replicas=int(((deployment or {}).get("spec") or {}).get("replicas") or predictor.get("minReplicas") or 1),
        by=annotations.get(BY_ANNOTATION, ""),
    )


def _serving(item: Document) -> Serving:
    model = _annotations(item["spec"]["template"]).get(MODEL_ANNOTATION, "")
    status = item.get("status") or {}
    return Serving(
        name=item["metadata"]["name"],
        model=model,
        ready=int(status.get("readyReplicas") or 0),
        replicas=int(item["spec"].get("replicas", 1)),
        by=_annotations(item).get(BY_ANNOTATION, ""),
    )


def _annotations(item: Document) -> dict[str, str]:
    return dict((item.get("metadata") or {}).get("annotations") or {})


def template_store(options: ClusterOptions) -> str:
    """Return the store of the cluster's workflow template."""
    spec = spec_of(connect(options).template(WORKFLOW))
    return next((str(each.get("value") or "") for each in parameters_of(spec) if each["name"] == "store"), "")


def submit(options: ClusterOptions, target: str, deployment: str, action: str, model: str) -> int:
    """Submit the chart's workflow and, with ``--watch`` or ``--logs``, follow it.

    Args:
        options: options of the cluster and of following.
        target: serving target.
        deployment: Deployment that serves.
        action: promote or rollback.
        model: address or digest of a Deployment manifest; empty = the model before.

    Raises:
        ConfigurationError: no such workflow template, or an invalid parameter.
    """
    from mm1_workflows.cli.commands.submit import TEMPLATE, Command  # imports Hera

    follow: Following = options  # type: ignore[assignment] # its subclasses have them
    if re.fullmatch(r"[0-9a-f]{64}", model):
        model = f"{template_store(options)}/{manifest_key(model)}"
    if model and not MANIFEST_NAME.match(model):
        raise ConfigurationError(
            f"{model}: expected the address of a Deployment, or its whole digest: `mm1 runs RUN` prints it"
        )
    values = [f"deployment={model}", f"action={action}", f"target={target}", f"deployment_name={deployment}"]
    return Command(
        file=f"{TEMPLATE}{WORKFLOW}",
        parameters=[*values, *follow.parameters],
        watch=follow.watch,
        logs=follow.logs,
        namespace=options.namespace,
        context=options.context,
        server=options.server,
        token_file=options.token_file,
    )()
