"""What each account of the chart may do in its namespace, with everything switched on: the one table that is tested.

``make test`` compares it with the chart's Roles (:func:`chart_rights`) and with the table of ``docs/reference/security.md``;
``make test-cluster`` asks a real API server about every account, verb and resource.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import yaml

TEMPLATES = Path(__file__).parents[2] / "charts" / "mm1" / "templates"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


class Right(NamedTuple):
    """A verb on a resource."""

    group: str
    """API group; empty = the core."""
    resource: str
    verb: str
    name: str = ""
    """Name of the only object; empty = all objects."""


def rights(group: str, resource: str, verbs: str, *names: str) -> set[Right]:
    """The rights of some verbs on a resource.

    Args:
        group: API group.
        resource: plural, with its subresource.
        verbs: separated by spaces.
        names: the only objects; none = all.
    """
    return {Right(group, resource, verb, name) for verb in verbs.split() for name in names or ("",)}


EXECUTOR = rights("argoproj.io", "workflowtaskresults", "create patch")
"""Argo's executor reports outputs and progress of its pod."""
KSERVE = (
    rights("serving.kserve.io", "inferenceservices", "get list watch")
    | rights("serving.kserve.io", "inferenceservices", "patch", "mm1-serve")
    | rights("", "configmaps", "get patch", "mm1-serve-rollout")
)
"""Only with serving.kserve.enabled."""
RIGHTS: dict[str, set[Right]] = {
    "mm1-step": EXECUTOR,
    "mm1-executor": EXECUTOR,
    "mm1-rank": set(),
    "mm1-serve": set(),
    "mm1-supervisor": EXECUTOR
    | rights("jobset.x-k8s.io", "jobsets", "get list watch create patch delete")
    | rights("batch", "jobs", "list patch")
    | rights("", "pods", "get list watch")
    | rights("", "pods/log", "get")
    | rights("", "events", "list create")
    | rights("argoproj.io", "workflows", "get")
    | rights("kueue.x-k8s.io", "workloads", "get list"),
    "mm1-rollout": EXECUTOR
    | rights("apps", "deployments", "get list watch create")
    | rights("apps", "deployments", "patch delete", "mm1-serve", "mm1-serve-canary")
    | rights("apps", "replicasets", "get list watch")
    | rights("", "pods", "get list watch")
    | rights("", "events", "create")
    | rights("gateway.networking.k8s.io", "httproutes", "get patch", "mm1-serve")
    | KSERVE,
    "mm1-submitter": rights("argoproj.io", "workflows", "get list watch create patch update delete")
    | rights("argoproj.io", "workflowtemplates", "get list watch")
    | rights("argoproj.io", "cronworkflows", "get list watch")
    | rights("", "pods", "get list watch delete")
    | rights("", "pods/log", "get")
    | rights("", "events", "get list watch")
    | rights("jobset.x-k8s.io", "jobsets", "get list watch delete")
    | rights("kueue.x-k8s.io", "workloads", "get list watch")
    | rights("apps", "deployments", "get list watch"),
}
"""Account -> its rights. `mm1-submitter` is the Role of the `submitters`, the others are service accounts."""
NEVER = [
    Right("", resource, verb)
    for resource, verbs in {
        "secrets": VERBS,
        "configmaps": VERBS,
        "serviceaccounts": VERBS,
        "serviceaccounts/token": ("create",),
        "pods": ("create", "update", "patch"),
        "pods/exec": ("create", "get"),
        "pods/attach": ("create", "get"),
        "pods/portforward": ("create", "get"),
        "pods/ephemeralcontainers": ("patch", "update"),
    }.items()
    for verb in verbs
] + [Right("rbac.authorization.k8s.io", resource, verb) for resource in ("roles", "rolebindings") for verb in VERBS]
"""Rights to read Secrets and settings, to enter a running pod, and to change rights; no account has them."""


def is_allowed(granted: set[Right], right: Right) -> bool:
    """Whether rights include a right, as Kubernetes decides: one on all objects includes those on each."""
    return right in granted or right._replace(name="") in granted


def chart_rights() -> dict[str, set[Right]]:
    """The rights in the chart's Roles, with every condition of their templates true."""
    return {
        document["metadata"]["name"]: {
            Right(group, resource, verb, name)
            for rule in document["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames") or [""]
        }
        for document in _roles()
    }


def chart_accounts() -> set[str]:
    """The chart's service accounts with their default names."""
    values = yaml.safe_load((TEMPLATES.parent / "values.yaml").read_text())
    return {value["name"] for value in values["accounts"].values() if isinstance(value, dict) and "name" in value}


def _roles() -> list[dict[str, Any]]:
    """The Roles of the templates, which have their actions on lines of their own, except for names."""
    found = []
    for path in sorted(TEMPLATES.glob("*.yaml")):
        text = path.read_text()
        shared = re.search(r'define "mm1.executorRules" -}}\n(.+?)\n{{- end }}', text, re.DOTALL)
        for document in re.split(r"^---$", text, flags=re.MULTILINE):
            if not re.search(r"^kind: Role$", document, re.MULTILINE):
                continue
            if shared:
                document = document.replace('  {{- include "mm1.executorRules" . | nindent 2 }}', indent(shared[1], "  "))
            document = re.sub(r"{{ \.(\w+)\.name }}", r"mm1-\1", document)
            plain = re.sub(r"^\s*{{.*\n", "", document, flags=re.MULTILINE)
            found.append(yaml.safe_load(re.sub(r"{{.+?}}", "any", plain)))
    return found


def table() -> str:
    """The table of the documentation: one row for each account and resource."""
    rows = ["| account | resource | verbs | only |", "|---|---|---|---|"]
    for account, granted in RIGHTS.items():
        if not granted:
            rows.append(f"| `{account}` | none | | |")
        places = sorted({(right.group, right.resource) for right in granted})
        for group, resource in places:
            by_names: dict[tuple[str, ...], list[str]] = {}
            for verb in VERBS:
                names = sorted(each.name for each in granted if each[:3] == (group, resource, verb))
                if names:
                    by_names.setdefault(tuple(names), []).append(verb)
            for names, verbs in by_names.items():
                only = ", ".join(f"`{name}`" for name in names if name)
                rows.append(f"| `{account}` | `{resource}{f'.{group}' if group else ''}` | {', '.join(verbs)} | {only} |")
    return "\n".join(rows)
