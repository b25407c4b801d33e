"""Translation of a step's pod from an Argo template to a Kubeflow task: resources, placement, secrets, volumes, limits.

Properties that Kubeflow cannot express are declared losses (:mod:`mm1_workflows.engines.kubeflow.losses`).
"""

from __future__ import annotations

import math
from typing import Any

from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import text_of
from mm1_workflows.argo.expressions import references
from mm1_workflows.argo.graph import Template
from mm1_workflows.engines.kubeflow.losses import STORE_KEYS, accelerator_of

Body = dict[str, Any]
OWN_ANNOTATIONS = "mm1.dev/"
"""Prefix of annotations for readers of the workflow, which pods do not need."""


def configure(task: Any, template: Template, body: Body, run_seconds: int) -> None:
    """Configure the pod of a Kubeflow task like that of an Argo template.

    Args:
        task: the ``kfp.dsl.PipelineTask``.
        template: the template as read.
        body: the template's plain data.
        run_seconds: maximum duration of the run, s.

    Raises:
        ConfigurationError: an environment variable contains a reference, which Kubeflow does not resolve.
    """
    task.set_caching_options(False)  # the step has its own cache, keyed by content rather than by names
    _retry(task, template, run_seconds)
    _resources(task, body)
    _placement(task, template, body)
    _environment(task, body)
    _volumes(task, body)
    _metadata(task, body)


def _retry(task: Any, template: Template, run_seconds: int) -> None:
    retry = template.retry
    if retry.limit:
        task.set_retry(
            num_retries=retry.limit,
            backoff_duration=f"{math.ceil(retry.wait_s)}s",
            backoff_factor=retry.factor,
            # Counts from the first start, so with a smaller value a long step would not be retried.
            backoff_max_duration=f"{run_seconds}s",
        )


def _resources(task: Any, body: Body) -> None:
    resources = body["container"].get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for amounts, set_cpu, set_memory in (
        (requests, task.set_cpu_request, task.set_memory_request),
        (limits, task.set_cpu_limit, task.set_memory_limit),
    ):
        if "cpu" in amounts:
            set_cpu(str(amounts["cpu"]))
        if "memory" in amounts:
            set_memory(str(amounts["memory"]))
    if name := accelerator_of(body):
        task.set_accelerator_type(name).set_accelerator_limit(str(limits[name]))


def _placement(task: Any, template: Template, body: Body) -> None:
    from kfp import kubernetes

    for key, value in sorted((body.get("nodeSelector") or {}).items()):
        kubernetes.add_node_selector(task, key, value)
    for item in body.get("tolerations") or []:
        kubernetes.add_toleration(
            task,
            key=item.get("key"),
            operator=item.get("operator"),
            value=item.get("value"),
            effect=item.get("effect"),
            toleration_seconds=item.get("tolerationSeconds"),
        )
    if template.timeout_s:
        kubernetes.set_timeout(task, math.ceil(template.timeout_s))
    context = (body.get("securityContext") or {}) | (body["container"].get("securityContext") or {})
    identity = {"run_as_user": "runAsUser", "run_as_group": "runAsGroup", "run_as_non_root": "runAsNonRoot"}
    given = {name: context[field] for name, field in identity.items() if context.get(field) is not None}
    if given:
        kubernetes.set_security_context(task, **given)


def _environment(task: Any, body: Body) -> None:
    from kfp import kubernetes

    container = body["container"]
    for raw in container.get("envFrom") or []:
        if secret := raw.get("secretRef"):
            keys = {key: key for key in STORE_KEYS}
            # always optional, because the Secret may not have all of the keys
            kubernetes.use_secret_as_env(task, secret["name"], keys, optional=True)
    for raw in container.get("env") or []:
        source = raw.get("valueFrom") or {}
        if secret := source.get("secretKeyRef"):
            kubernetes.use_secret_as_env(
                task, secret["name"], {secret["key"]: raw["name"]}, optional=bool(secret.get("optional"))
            )
        elif config := source.get("configMapKeyRef"):
            kubernetes.use_config_map_as_env(
                task, config["name"], {config["key"]: raw["name"]}, optional=bool(config.get("optional"))
            )
        elif field := source.get("fieldRef"):
            kubernetes.use_field_path_as_env(task, raw["name"], field["fieldPath"])
        elif references(str(raw.get("value", ""))):
            raise ConfigurationError(
                f"template {body['name']}: environment variable {raw['name']} contains a reference, which Kubeflow does not "
                "resolve; pass it as an argument"
            )
        else:
            task.set_env_variable(raw["name"], str(raw.get("value", "")))


def _volumes(task: Any, body: Body) -> None:
    from kfp import kubernetes

    volumes = {volume["name"]: volume for volume in body.get("volumes") or []}
    for mount in body["container"].get("volumeMounts") or []:
        volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
        if "emptyDir" in volume:
            scratch = volume["emptyDir"] or {}
            kubernetes.empty_dir_mount(
                task, mount["name"], path, medium=scratch.get("medium"), size_limit=text_of(scratch.get("sizeLimit"))
            )
        elif claim := volume.get("persistentVolumeClaim"):
            kubernetes.mount_pvc(task, claim["claimName"], path, sub_path=mount.get("subPath") or "")
        elif secret := volume.get("secret"):
            kubernetes.use_secret_as_volume(task, secret["secretName"], path, optional=bool(secret.get("optional")))
        elif config := volume.get("configMap"):
            kubernetes.use_config_map_as_volume(task, config["name"], path, optional=bool(config.get("optional")))


def _metadata(task: Any, body: Body) -> None:
    from kfp import kubernetes

    metadata = body.get("metadata") or {}
    for key, value in sorted((metadata.get("labels") or {}).items()):
        kubernetes.add_pod_label(task, key, value)
    for key, value in sorted((metadata.get("annotations") or {}).items()):
        if not key.startswith(OWN_ANNOTATIONS):
            kubernetes.add_pod_annotation(task, key, value)
