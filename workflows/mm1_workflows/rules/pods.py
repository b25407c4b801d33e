"""Rules P009 to P019: reliability and security of workflows on a cluster.

Each rule is a function from a built workflow (plain data, within the subset) and its profile to findings. The rules for pods
also apply to the ranks of a training template, which are configured in ``--launcher=``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from mm1.errors.redact import SECRET_NAME, SECRET_VALUE
from mm1_components.ranks.launcher import Launcher
from mm1_components.wrapper.arguments import LAUNCHER_FLAG
from mm1_components.wrapper.pools import POOL_LABEL
from mm1_workflows.argo.document import LAUNCHES_ANNOTATION, Document, grace_of, parameters_of, spec_of
from mm1_workflows.argo.expressions import references
from mm1_workflows.argo.graph import common_type, parameter_types
from mm1_workflows.argo.retries import retry_codes
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding
from mm1_workflows.rules.pod_security import violations
from mm1_workflows.rules.reading import read_workflow

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
NEVER_RETRIED = frozenset({1, 2, 80, 81, 88})
MIN_GRACE_S = 60.0
MIN_RANK_GRACE_S = 300.0
"""Minimum for ranks on GPUs: one step and a checkpoint of about 100 GB (a 7B model with its optimizer) at 1 GB/s, twice."""
RELEASED = ("default", "smoke")
"""Profiles with the images of this project's releases."""
LOCAL_IMAGE = "localhost/"


def containers(document: Document) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name, body and container of each container template."""
    for body in spec_of(document).get("templates") or []:
        if "container" in body:
            yield f"template {body['name']}", body, body["container"]


def launcher_text(container: dict[str, Any]) -> str | None:
    """Return the launcher of a template as JSON; None if it starts no ranks."""
    flag = f"{LAUNCHER_FLAG}="
    return next((word.removeprefix(flag) for word in map(str, container.get("args") or []) if word.startswith(flag)), None)


def launchers(document: Document) -> Iterator[tuple[str, Launcher]]:
    """Yield the name and launcher of each template that starts ranks; P019 reports launchers that cannot be parsed."""
    for where, _, container in containers(document):
        if text := launcher_text(container):
            with suppress(ValidationError):
                yield where, Launcher.model_validate_json(text)


def explicit_command(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P009."""
    for where, _, container in containers(document):
        if not container.get("command"):
            yield Finding("P009", where, "has no command")


def pinned_images(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P010."""
    images = [(where, container.get("image") or "") for where, _, container in containers(document)]
    images += [(f"{where} (ranks)", image) for where, launcher in launchers(document) for image in launcher.images.values()]
    for where, image in images:
        if not DIGEST.search(image):
            # The tag of a local image cannot be moved in a registry; the released profiles are pinned with each release.
            is_warning = profile.name in RELEASED or image.startswith(LOCAL_IMAGE)
            yield Finding("P010", where, f"image {image!r} is not pinned by digest", "warning" if is_warning else "error")


def bounded_time(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P011."""
    for where, body, _ in containers(document):
        supervises = LAUNCHES_ANNOTATION in ((body.get("metadata") or {}).get("annotations") or {})
        if not supervises and not body.get("activeDeadlineSeconds"):
            yield Finding("P011", where, "has no activeDeadlineSeconds")


def retry_by_class(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P012."""
    for where, body, _ in containers(document):
        strategy = body.get("retryStrategy") or {}
        codes = retry_codes(strategy.get("expression"))
        if codes is None:
            yield Finding("P012", where, "its retry expression has no exit codes")
        elif strategy.get("limit") is None:
            yield Finding("P012", where, "retries without a limit")
        elif codes & NEVER_RETRIED:
            yield Finding("P012", where, f"retries exit codes {sorted(codes & NEVER_RETRIED)}, which a retry cannot fix")


def restricted(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P013."""
    for where, body, _ in containers(document):
        yield from (Finding("P013", where, complaint) for complaint in violations(pod_of(document, body)))


def pod_of(document: Document, body: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that Argo makes of a container template, without Argo's own containers."""
    spec = spec_of(document)
    return {
        "securityContext": body.get("securityContext") or spec.get("securityContext") or {},  # one replaces the other
        "hostNetwork": spec.get("hostNetwork"),
        "containers": [body["container"], *(body.get("sidecars") or [])],
        "initContainers": body.get("initContainers") or [],
        "volumes": [*(spec.get("volumes") or []), *(body.get("volumes") or [])],
    }


def no_secrets(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P014."""
    for where, _, container in containers(document):
        for entry in container.get("env") or []:
            if entry.get("value") and not references(str(entry["value"])) and _secret(entry["name"], str(entry["value"])):
                yield Finding("P014", where, f"the value of environment variable {entry['name']} looks like a secret")
        for word in map(str, container.get("args") or []):
            name, _, value = word.partition("=")
            if SECRET_VALUE.search(word) or (name.startswith("-") and value and _secret(name, value)):
                yield Finding("P014", where, f"argument {name.split(' ')[0]} looks like a secret")
    for where, launcher in launchers(document):
        environments = [launcher.environment, *(pool.network.environment for pool in launcher.pools.values())]
        for name, value in (item for environment in environments for item in environment.items()):
            if value and _secret(name, value):
                yield Finding("P014", f"{where} (ranks)", f"the value of environment variable {name} looks like a secret")
    for raw in parameters_of(spec_of(document)):
        if raw.get("value") and _secret(raw["name"], str(raw["value"])):
            yield Finding("P014", f"parameter {raw['name']}", "its default looks like a secret")


def _secret(name: str, value: str) -> bool:
    return bool(SECRET_VALUE.search(value) or SECRET_NAME.search(name))


def limits(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P015."""
    for where, body, container in containers(document):
        resources = container.get("resources") or {}
        requests, upper = resources.get("requests") or {}, resources.get("limits") or {}
        pool = profile.pools.get(((body.get("metadata") or {}).get("labels") or {}).get(POOL_LABEL, ""))
        for name in ("memory",) if pool and pool.burst else ("cpu", "memory"):
            if name not in upper:
                yield Finding("P015", where, f"has no {name} limit")
        if any("gpu" in name for name in upper) and requests != upper:
            yield Finding("P015", where, "uses GPUs, but its requests differ from its limits")


def grace(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P016."""
    for where, body, _ in containers(document):
        if grace_of(body) < MIN_GRACE_S:
            yield Finding("P016", where, f"expected a grace period of at least {MIN_GRACE_S:g} s, got {grace_of(body):g} s")

    for where, launcher in launchers(document):
        pool = launcher.pools.get(launcher.pool)
        least = MIN_RANK_GRACE_S if pool and pool.gpus else MIN_GRACE_S
        if launcher.grace_s < least:
            message = f"expected a grace period of at least {least:g} s for a step and a checkpoint, got {launcher.grace_s} s"
            yield Finding("P016", f"{where} (ranks)", message)


def one_type(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P017."""
    workflow = read_workflow(document)
    tasks = [*workflow.tasks.values(), *([workflow.on_exit] if workflow.on_exit else [])]
    for name, feeds in parameter_types(tasks).items():
        if common_type(list(feeds.values())) is None:
            inputs = ", ".join(f"{name} ({kind})" for name, kind in sorted(feeds.items()))
            yield Finding("P017", f"parameter {name}", f"feeds inputs of different types: {inputs}")


def capped_waits(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P018."""
    for where, body, _ in containers(document):
        if ((body.get("retryStrategy") or {}).get("backoff") or {}).get("maxDuration"):
            yield Finding("P018", where, "limits its retries by backoff.maxDuration")


def readable_launcher(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P019."""
    for where, _, container in containers(document):
        if text := launcher_text(container):
            try:
                launcher = Launcher.model_validate_json(text)
            except ValidationError as error:
                first = error.errors()[0]
                yield Finding("P019", where, f"{'.'.join(map(str, first['loc'])) or LAUNCHER_FLAG}: {first['msg']}")
                continue
            if launcher.pool not in launcher.pools:
                yield Finding("P019", where, f"pool {launcher.pool!r} is not in its pools")
            for name, pool in launcher.pools.items():
                if pool.image not in launcher.images:
                    yield Finding("P019", where, f"pool {name!r} uses image {pool.image!r}, which is not in its images")
