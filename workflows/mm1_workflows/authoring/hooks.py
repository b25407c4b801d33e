"""What holds for every template and every workflow, put in place by Hera's pre-build hooks.

Importing this module registers the hooks, so a template written by hand gets the same resources of its pool, retry by outcome
class, restricted security context, ``/dev/shm``, grace period and labels as one made by :mod:`mm1_workflows.authoring.steps`.
A hook fills only what the template leaves open, so a workflow may be built any number of times.
"""

from __future__ import annotations

import json
from typing import Any

from hera.shared import global_config
from hera.workflows import (
    Container,
    CronWorkflow,
    EmptyDirVolume,
    Env,
    ExistingVolume,
    Parameter,
    RetryStrategy,
    Workflow,
    WorkflowTemplate,
)
from hera.workflows.env_from import SecretEnvFrom
from hera.workflows.models import (
    Backoff,
    Capabilities,
    PodGC,
    PodSecurityContext,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    Toleration,
    TTLStrategy,
)

from mm1_components.wrapper.pools import POOL_LABEL, Pool
from mm1_workflows.argo.expressions import RETRY_EXPRESSION
from mm1_workflows.authoring import profiles
from mm1_workflows.authoring.profiles import Profile

LABELS = {"app.kubernetes.io/part-of": "mm1"}
DEFAULT_SECONDS = 86_400
DEFAULT_GRACE_S = 60


def fill_container(template: Container) -> Container:
    """Give a container template what every template has."""
    profile = profiles.current()
    labels = template.labels or {}
    name = profile.placed(labels.get(POOL_LABEL, "cpu"))  # a template by hand may name the kind of step instead of a pool
    template.labels = LABELS | labels | {POOL_LABEL: name}
    pool = profile.pool(name)
    _place(template, pool, profile)
    if template.retry_strategy is None:
        template.retry_strategy = retries(profile.retries.step)
    if template.active_deadline_seconds is None:
        template.active_deadline_seconds = DEFAULT_SECONDS
    if template.pod_spec_patch is None:
        template.pod_spec_patch = grace_patch(DEFAULT_GRACE_S)
    if template.security_context is None:
        template.security_context = SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            capabilities=Capabilities(drop=["ALL"]),
        )
    return template


def _place(template: Container, pool: Pool, profile: Profile) -> None:
    if template.resources is None:
        template.resources = ResourceRequirements.model_validate(pool.resources)
    if template.node_selector is None and pool.labels:
        template.node_selector = dict(pool.labels)
    if template.tolerations is None and pool.taints:
        template.tolerations = [Toleration(**toleration) for toleration in pool.tolerations]
    if template.volumes is None:
        # The root file system is read-only: scratch and shared memory are the two places to write to.
        template.volumes = [
            EmptyDirVolume(name="tmp", mount_path="/tmp", size_limit=pool.scratch),
            EmptyDirVolume(name="shm", mount_path="/dev/shm", medium="Memory", size_limit=pool.shared_memory),
            *(
                ExistingVolume(name=f"claim-{one.claim}", claim_name=one.claim, mount_path=one.mount_path, read_only=True)
                for one in profile.volumes
            ),
        ]
    if template.env is None and profile.environment:
        template.env = [Env(name=name, value=value) for name, value in profile.environment.items()]
    if template.env_from is None and profile.environment_secret:
        template.env_from = [SecretEnvFrom(name=profile.environment_secret, optional=True)]


def retries(limit: int) -> RetryStrategy:
    """Start again so many times at most, after the outcome classes that can pass by themselves."""
    # `cap`, not `max_duration`: that counts from the first start, so a long step would never be started again.
    return RetryStrategy(limit=limit, expression=RETRY_EXPRESSION, backoff=Backoff(duration="5s", factor=2, cap="2m"))


def grace_patch(seconds: int) -> str:
    """Pod patch with the time between SIGTERM and SIGKILL (Argo has no field for it)."""
    return json.dumps({"terminationGracePeriodSeconds": seconds})


def fill_workflow(workflow: Workflow) -> Workflow:
    """Give a workflow what every workflow has: store parameter, bounds, labels, pod security; describe its parameters."""
    profile = profiles.current()
    workflow.labels = LABELS | (workflow.labels or {})
    workflow.arguments = _parameters(workflow, profile)
    workflow.active_deadline_seconds = workflow.active_deadline_seconds or profile.run_seconds
    workflow.service_account_name = workflow.service_account_name or profile.accounts.step
    if workflow.archive_logs is None and profile.archive_logs:
        workflow.archive_logs = True
    if workflow.pod_gc is None:
        workflow.pod_gc = PodGC(strategy="OnWorkflowCompletion", delete_delay_duration="60s")
    if workflow.ttl_strategy is None:
        workflow.ttl_strategy = TTLStrategy(seconds_after_completion=7 * 86_400)
    if workflow.security_context is None:
        workflow.security_context = PodSecurityContext(
            run_as_non_root=True, seccomp_profile=SeccompProfile(type="RuntimeDefault")
        )
    return workflow


def _parameters(workflow: Workflow, profile: Profile) -> list[Parameter]:
    built = workflow._build_arguments()
    parameters = [Parameter.from_model(model) for model in (built.parameters or [] if built else [])]
    if not any(parameter.name == "store" for parameter in parameters):
        text = "object store: file:///folder or s3://bucket/prefix"
        parameters.append(Parameter(name="store", value=profile.store, description=text))
    described = _declarations(workflow)
    for parameter in parameters:
        if source := described.get(parameter.name or ""):
            parameter.description = parameter.description or source.description
            parameter.enum = parameter.enum or source.enum
    return parameters


def _declarations(workflow: Workflow) -> dict[str, Any]:
    """Workflow parameter -> the first template input that it feeds as it is."""
    templates = {template.name: template for template in workflow.templates}
    found: dict[str, Any] = {}
    for task in (task for template in workflow.templates for task in getattr(template, "tasks", [])):
        template = templates.get(getattr(task.template, "name", task.template))
        inputs = template._build_inputs() if isinstance(template, Container) else None
        declared = {model.name: model for model in (inputs.parameters or [] if inputs else [])}
        arguments = task._build_arguments()
        for argument in arguments.parameters or [] if arguments else []:
            prefix, _, name = str(argument.value or "").strip("{} ").rpartition("workflow.parameters.")
            if not prefix and name and argument.name in declared:
                found.setdefault(name, declared[argument.name])
    return found


def _register(hook: Any, cls: type) -> None:
    """Register for a class: Hera reads the class from the return annotation."""

    def typed(value: Any) -> Any:
        return hook(value)

    typed.__annotations__["return"] = cls
    global_config.register_pre_build_hook(typed)


def _image() -> str:
    return profiles.current().image("cpu")


global_config.image = _image
_register(fill_container, Container)
for _cls in (Workflow, WorkflowTemplate, CronWorkflow):
    _register(fill_workflow, _cls)
