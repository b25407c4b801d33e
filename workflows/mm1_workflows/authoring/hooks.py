"""Hera pre-build hooks that complete every template and workflow.

Importing this module registers the hooks. A template written by hand therefore gets the same pool resources, retries by
outcome class, restricted security context, ``/dev/shm``, grace period and labels as one from
:mod:`mm1_workflows.authoring.steps`, and every task depends on the tasks whose outputs it refers to. A hook only sets fields
that are not set, so a workflow may be built any number of times.
"""

# No `from __future__ import annotations`: Hera reads a hook's class from its return annotation, which must not be a string.

import json
from typing import TypeVar

from hera.shared import global_config
from hera.workflows import (
    DAG,
    Container,
    CronWorkflow,
    EmptyDirVolume,
    Env,
    ExistingVolume,
    RetryStrategy,
    SecretEnv,
    SecretVolume,
    Task,
    Workflow,
    WorkflowTemplate,
)
from hera.workflows.env_from import SecretEnvFrom
from hera.workflows.models import (
    Backoff,
    Capabilities,
    Parameter,
    PodGC,
    PodSecurityContext,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    Toleration,
    TTLStrategy,
)

from mm1.report.notification import LINK_VARIABLE, URL_VARIABLE
from mm1.serve.api.keys import VARIABLE
from mm1_components.wrapper.pools import POOL_LABEL, Pool
from mm1_components.wrapper.traces import ENDPOINTS
from mm1_workflows.argo.document import LAUNCHES_ANNOTATION, STEP_LABEL
from mm1_workflows.argo.expressions import parse_depends, task_outputs
from mm1_workflows.argo.retries import RETRY_EXPRESSION
from mm1_workflows.authoring import hera_private, profiles
from mm1_workflows.authoring.profiles import Profile

WorkflowT = TypeVar("WorkflowT", bound=Workflow)
LABELS = {"app.kubernetes.io/part-of": "mm1"}
DEFAULT_SECONDS = 86_400
DEFAULT_GRACE_S = 60


def fill_container(template: Container) -> Container:
    """Set the common fields of a container template."""
    profile = profiles.current()
    labels = template.labels or {}
    name = profile.placed(labels.get(POOL_LABEL, "cpu"))  # a hand-written template may have the kind of step instead of a pool
    template.labels = LABELS | labels | {POOL_LABEL: name}
    pool = profile.pool(name)
    _set_placement(template, pool, profile)
    if template.retry_strategy is None:
        template.retry_strategy = retries(profile.retries.step)
    if template.active_deadline_seconds is None and LAUNCHES_ANNOTATION not in (template.annotations or {}):
        template.active_deadline_seconds = DEFAULT_SECONDS  # a supervisor has the limit of the run, or none
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


SIGNING_STEP = "deploy"
"""The only step whose pods have the signing key."""
ROLLOUT_STEP = "rollout"
"""The only step whose pods have the API key of the served model."""
API_KEY = "api-key"
"""Key in the profile's `serving_secret`."""
NOTIFYING_STEP = "report"
"""The only step whose pods have the address of the webhook."""


def _set_placement(template: Container, pool: Pool, profile: Profile) -> None:
    if template.resources is None:
        template.resources = ResourceRequirements.model_validate(pool.resources)
    if template.node_selector is None and pool.labels:
        template.node_selector = dict(pool.labels)
    if template.tolerations is None and pool.taints:
        template.tolerations = [Toleration(**toleration) for toleration in pool.tolerations]
    if template.volumes is None:
        # The root file system is read-only: only scratch and shared memory are writable.
        template.volumes = [
            EmptyDirVolume(name="tmp", mount_path="/tmp", size_limit=pool.scratch),
            EmptyDirVolume(name="shm", mount_path="/dev/shm", medium="Memory", size_limit=pool.shared_memory),
            *(
                ExistingVolume(name=claim.name, claim_name=claim.claim, mount_path=claim.mount_path, read_only=True)
                for claim in profile.volumes
            ),
            *_signing_key(template, profile),
        ]
    if template.env is None:
        variables = ({ENDPOINTS[0]: profile.traces} if profile.traces else {}) | profile.environment
        own = [Env(name=name, value=value) for name, value in variables.items()]
        template.env = [*own, *_api_key(template, profile), *_webhook(template, profile)] or None
    if template.env_from is None and profile.environment_secret:
        template.env_from = [SecretEnvFrom(name=profile.environment_secret, optional=True)]


def _api_key(template: Container, profile: Profile) -> list[SecretEnv]:
    """Return the variable with the API key of the served model, for the step that asks it."""
    asks = (template.labels or {}).get(STEP_LABEL) == ROLLOUT_STEP
    if not asks or not profile.serving_secret:
        return []
    return [SecretEnv(name=VARIABLE, secret_name=profile.serving_secret, secret_key=API_KEY)]


def _signing_key(template: Container, profile: Profile) -> list[SecretVolume]:
    """Return the volume with the signing key, for the step that signs."""
    signs = (template.labels or {}).get(STEP_LABEL) == SIGNING_STEP
    if not signs or not profile.signing_secret:
        return []
    return [SecretVolume(name="signing", secret_name=profile.signing_secret, mount_path=profiles.SIGNING_PATH, read_only=True)]


def _webhook(template: Container, profile: Profile) -> list[SecretEnv]:
    """Return the variables with the webhook's address, for the step that notifies."""
    notifies = (template.labels or {}).get(STEP_LABEL) == NOTIFYING_STEP
    if not notifies or not profile.notify_secret:
        return []
    keys = {URL_VARIABLE: "url", LINK_VARIABLE: "link"}
    return [
        SecretEnv(name=name, secret_name=profile.notify_secret, secret_key=key, optional=True) for name, key in keys.items()
    ]


def retries(limit: int) -> RetryStrategy:
    """Build a retry strategy for transient outcome classes, with a limit."""
    # `cap`, not `max_duration`, which counts from the first start: a long step would never be retried.
    return RetryStrategy(limit=limit, expression=RETRY_EXPRESSION, backoff=Backoff(duration="5s", factor=2, cap="2m"))


def grace_patch(seconds: int) -> str:
    """Build a pod patch with the termination grace period (Argo has no field for it)."""
    return json.dumps({"terminationGracePeriodSeconds": seconds})


def fill_dag(dag: DAG) -> DAG:
    """Make every task of a DAG depend on the tasks whose outputs it refers to.

    A reference to an output does not make Argo wait for its task. The edges are added when the workflow is built, not when
    the task is created, because Hera rejects an explicit ``a >> b`` if the edge exists.
    """
    order = {task.name: number for number, task in enumerate(dag.tasks)}
    for task in dag.tasks:
        if isinstance(task, Task) and not task.dependencies:
            _add_edges(task, order)
    return dag


def _add_edges(task: Task, order: dict[str, int]) -> None:
    existing = parse_depends(task.depends or "")
    if existing is None:  # not a plain conjunction: rejected later, by rule P003
        return
    values = [str(parameter.value or "") for parameter in hera_private.arguments_of(task).parameters or []]
    producers = {name for name, _ in task_outputs([*values, task.when or "", str(task.with_param or "")])}
    missing = sorted((producers & order.keys()).difference(existing), key=order.__getitem__)
    task.depends = " && ".join([*existing, *missing]) or None


def fill_workflow(workflow: Workflow) -> Workflow:
    """Set the common fields of a workflow: store parameter, limits, labels, pod security."""
    return _filled(workflow)


def _fill_workflow_template(template: WorkflowTemplate) -> WorkflowTemplate:
    return _filled(template)


def _fill_cron_workflow(workflow: CronWorkflow) -> CronWorkflow:
    return _filled(workflow)


def _filled(workflow: WorkflowT) -> WorkflowT:
    profile = profiles.current()
    workflow.labels = LABELS | (workflow.labels or {})
    _add_store(workflow, profile)
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


def _add_store(workflow: Workflow, profile: Profile) -> None:
    arguments = hera_private.arguments_of(workflow)
    parameters = arguments.parameters or []
    if not any(parameter.name == "store" for parameter in parameters):
        store = Parameter(name="store", value=profile.store, description="object store: file:///folder or s3://bucket/prefix")
        workflow.arguments = arguments.model_copy(update={"parameters": [*parameters, store]})


def _image() -> str:
    return profiles.current().image("cpu")


global_config.image = _image
for _hook in (fill_container, fill_dag, fill_workflow, _fill_workflow_template, _fill_cron_workflow):
    global_config.register_pre_build_hook(_hook)
