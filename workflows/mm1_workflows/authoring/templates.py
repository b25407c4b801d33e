"""Translation of a step's declaration to a Hera container template: command, arguments, output parameters, artifacts.

Each step is declared once, in ``mm1_components.<name>``.
"""

from __future__ import annotations

import contextvars
import json
from typing import Any, Literal, get_args, get_origin

from hera.workflows import Artifact, Container, NoneArchiveStrategy, Parameter
from hera.workflows.models import ContainerPort, ValueFrom
from pydantic.fields import FieldInfo

from mm1_components.ranks.jobset.names import ROLE_LABEL, SUPERVISOR_ROLE
from mm1_components.ranks.launcher import Launcher
from mm1_components.wrapper.arguments import LAUNCHER_FLAG, LOG_FORMAT_FLAG, PLACEMENT, flag_of, role_of
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.pools import POOL_LABEL
from mm1_workflows.argo.document import INPUTS_ANNOTATION, LAUNCHES_ANNOTATION, PROGRESS_FILE, STEP_LABEL, TASK_INPUT
from mm1_workflows.authoring import hooks, profiles

TEMPLATE_PREFIX = "step-"
"""Distinguishes a step's template from a DAG of the same name (``DAG(name="pretrain")`` with ``steps.pretrain``)."""
OUT_FOLDER = "/tmp/mm1/out"
ARTIFACT_FOLDER = "/tmp/mm1/artifacts"
METRICS_PORT_NAME = "metrics"
SUPERVISOR_GRACE_S = 120
"""Seconds for a stopped supervisor to stop its ranks, which save within their own grace period."""


def template(step: Step[Any, Any]) -> Container:
    """Build the container template of a step, outside any context (the task adds it to the workflow)."""
    return contextvars.Context().run(_template, step, profiles.current())


def _template(step: Step[Any, Any], profile: profiles.Profile) -> Container:
    fields = step.inputs.model_fields
    args = [f"{flag_of(name)}={{{{inputs.parameters.{name}}}}}" for name in fields]
    args += [f"--out.{name}={OUT_FOLDER}/{name}" for name in step.outputs.model_fields]
    args += [f"--artifact.{name}={ARTIFACT_FOLDER}/{name}" for name in step.artifacts]
    args += ["--store={{workflow.parameters.store}}", "--run={{workflow.name}}"]
    args += [f"--task={{{{inputs.parameters.{TASK_INPUT}}}}}", f"--progress={PROGRESS_FILE}"]
    args += [f"{LOG_FORMAT_FLAG}={profile.log_format}"] if profile.log_format != "text" else []
    pool = profile.placed(step.pool)
    labels = {POOL_LABEL: pool, STEP_LABEL: step.name.replace("_", "-")}
    placing: dict[str, Any] = {}
    if step.account:
        placing["service_account_name"] = profile.account(step.account)
    if step.distributed:  # the step's pod is only the supervisor
        args += [f"{LAUNCHER_FLAG}={launcher(profile, pool, step.grace_s).model_dump_json(exclude_defaults=True)}"]
        launches, pool = pool, profile.placed("cpu")
        labels |= {POOL_LABEL: pool, ROLE_LABEL: SUPERVISOR_ROLE}
        placing = {
            "service_account_name": profile.account(step.account or "supervisor"),
            "retry_strategy": hooks.retries(profile.retries.supervisor),
        }
        if profile.metrics_port is not None:  # the name by which the chart's PodMonitor finds it
            placing["ports"] = [ContainerPort(name=METRICS_PORT_NAME, container_port=profile.metrics_port)]
    return Container(
        name=f"{TEMPLATE_PREFIX}{step.name.replace('_', '-')}",
        image=profile.image(profile.pool(pool).image),
        command=["python", "-m", step.module],
        args=args,
        inputs=[_input(name, info) for name, info in fields.items()]
        + [Parameter(name=TASK_INPUT, description="name of the task in the run")],
        outputs=[*_outputs(step), *_artifacts(step)],
        labels=labels,
        annotations={
            INPUTS_ANNOTATION: json.dumps({name: input_type(info) for name, info in fields.items()}),
            "mm1.dev/summary": step.summary,
        }
        | ({LAUNCHES_ANNOTATION: launches} if step.distributed else {}),
        active_deadline_seconds=profile.run_seconds if step.distributed else step.timeout_s,
        pod_spec_patch=hooks.grace_patch(SUPERVISOR_GRACE_S if step.distributed else step.grace_s),
        **placing,
    )


def launcher(profile: profiles.Profile, pool: str, grace_s: int) -> Launcher:
    """Build the launcher of a training step for the pools of a profile."""
    pools = {name: entry for name, entry in profile.pools.items() if name == pool or entry.gpus}
    used = {entry.image for entry in pools.values()}
    return Launcher(
        pool=pool,
        pools={name: entry.model_copy(update={"nodes": {}}) for name, entry in pools.items()},
        images={name: profile.image(name) for name in sorted(used)},
        account=profile.accounts.rank,
        environment_secret=profile.environment_secret,
        environment=profile.environment,
        volumes=profile.volumes,
        queue=profile.queue,
        priority=profile.priority,
        grace_s=grace_s,
        retries=profile.retries.supervisor,
        timeout_s=profile.run_seconds,
        lease_s=profile.lease_seconds,
        restarts=profile.retries.restarts,
        relaunches=profile.retries.relaunches,
        metrics_port=profile.metrics_port,
    )


def input_type(info: FieldInfo) -> str | list[str]:
    """Return the type of an input for workflow parameters: a name, or the list of choices."""
    if (role := role_of(info)) and role != PLACEMENT:
        return role
    if get_origin(info.annotation) is Literal:
        return [str(choice) for choice in get_args(info.annotation)]
    names: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "boolean"}
    return names.get(info.annotation, "text")


def _input(name: str, info: FieldInfo) -> Parameter:
    kind = input_type(info)
    extra: dict[str, Any] = {} if info.is_required() else {"default": as_text(info.default)}
    if isinstance(kind, list) or kind == "boolean":
        extra["enum"] = kind if isinstance(kind, list) else ["true", "false"]
    return Parameter(name=name, description=info.description, **extra)


def _outputs(step: Step[Any, Any]) -> list[Parameter]:
    return [
        Parameter(name=name, description=info.description, value_from=ValueFrom(path=f"{OUT_FOLDER}/{name}"))
        for name, info in step.outputs.model_fields.items()
    ]


def _artifacts(step: Step[Any, Any]) -> list[Artifact]:
    # Argo's artifact names must not contain dots; `optional` because a step may end without the file, for example if cached.
    return [
        Artifact(name=name.replace(".", "-"), path=f"{ARTIFACT_FOLDER}/{name}", archive=NoneArchiveStrategy(), optional=True)
        for name in step.artifacts
    ]


def as_text(value: Any) -> str:
    """Format the value of an input as engines pass it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
