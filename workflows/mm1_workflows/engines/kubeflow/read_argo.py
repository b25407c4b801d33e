"""Reader of an Argo workflow's facts from its plain data, independent of :mod:`mm1_workflows.argo.graph` and the translator.

Properties that Kubeflow cannot express are omitted or converted, each with its kind of loss: steps with the same condition wait
together (``conditions``), a Secret only provides the known keys (``secrets``), a container has one extended resource
(``pod-network``).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from mm1_workflows.argo.expressions import parse_duration
from mm1_workflows.engines.kubeflow.facts import Facts, Pairs, StepFacts, plain_name, plain_value
from mm1_workflows.engines.kubeflow.losses import STORE_KEYS, accelerator_of

Raw = dict[str, Any]
BRACES = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def read(document: Raw) -> Facts:
    """Read the facts of a Workflow, WorkflowTemplate or CronWorkflow."""
    spec = document["spec"].get("workflowSpec", document["spec"])
    metadata = document.get("metadata") or {}
    bodies = {body["name"]: body for body in spec["templates"]}
    tasks: list[Raw] = bodies[spec["entrypoint"]]["dag"]["tasks"]
    before = _lifted(tasks)
    steps = {raw["name"]: _step(raw, bodies[raw["template"]], before[raw["name"]]) for raw in tasks}
    if spec.get("onExit"):
        body = bodies[spec["onExit"]]
        raw = body["dag"]["tasks"][0] if "dag" in body else {"name": body["name"], "template": body["name"]}
        steps[raw["name"]] = _step(raw, bodies[raw["template"]], frozenset(), at_exit=True)
    return Facts(
        name=(metadata.get("name") or metadata.get("generateName", "")).rstrip("-"),
        parameters=frozenset(_parameter(raw) for raw in (spec.get("arguments") or {}).get("parameters") or []),
        deadline_s=spec.get("activeDeadlineSeconds") or 0,
        steps=steps,
    )


def _parameter(raw: Raw) -> tuple[str, ...]:
    name = plain_name(raw["name"])
    return (name,) if raw.get("value") is None else (name, plain_value(raw["value"]))


def _lifted(tasks: list[Raw]) -> dict[str, frozenset[str]]:
    """Return the dependencies of each task; connected conditional tasks share the dependencies of all of them."""
    before = {raw["name"]: {word.strip() for word in (raw.get("depends") or "").split("&&")} - {""} for raw in tasks}
    for raw in tasks:
        for text in [raw.get("when") or "", raw.get("withParam") or ""]:
            before[raw["name"]] |= {name.split(".")[1] for name in BRACES.findall(text) if name.startswith("tasks.")}
    group = {raw["name"]: {raw["name"]} for raw in tasks if raw.get("when")}
    for name in group:
        for other in before[name] & group.keys():
            merged = group[name] | group[other]
            for member in merged:
                group[member] = merged
    for members in {id(item): item for item in group.values()}.values():
        outer = {other for member in members for other in before[member] - members}
        for member in members:
            before[member] |= outer
    return {name: frozenset(tasks) for name, tasks in before.items()}


def _step(raw: Raw, body: Raw, before: frozenset[str], *, at_exit: bool = False) -> StepFacts:
    container = body["container"]
    loop = raw.get("withItems") if raw.get("withItems") is not None else raw.get("withParam")
    return StepFacts(
        image=container.get("image", ""),
        argv=tuple(_word(str(word), raw, body) for word in [*(container.get("command") or []), *(container.get("args") or [])]),
        before=before,
        condition=_named(" ".join((raw.get("when") or "").replace("'", "").replace('"', "").split())),
        loop="" if loop is None else _named(loop) if isinstance(loop, str) and BRACES.search(loop) else _items(loop),
        at_exit=at_exit,
        resources=_resources(body),
        selector=frozenset((body.get("nodeSelector") or {}).items()),
        tolerations=frozenset(
            tuple(str(item.get(key, "")) for key in ("key", "operator", "value", "effect", "tolerationSeconds"))
            for item in body.get("tolerations") or []
        ),
        secrets=_secrets(container),
        environment=frozenset((item["name"], str(item["value"])) for item in container.get("env") or [] if "value" in item),
        mounts=_mounts(body),
        labels=frozenset(((body.get("metadata") or {}).get("labels") or {}).items()),
        retry=_retry(body.get("retryStrategy") or {}),
        timeout_s=int(body.get("activeDeadlineSeconds") or 0),
    )


def _word(word: str, raw: Raw, body: Raw) -> str:
    outputs = body.get("outputs") or {}
    names = {item["valueFrom"]["path"]: item["name"] for item in outputs.get("parameters") or []}
    names |= {item["path"]: item["name"] for item in outputs.get("artifacts") or []}
    for path in sorted(names, key=len, reverse=True):
        word = word.replace(path, f"<output {plain_name(names[path])}>")
    arguments = {item["name"]: str(item["value"]) for item in (raw.get("arguments") or {}).get("parameters") or []}
    for item in (body.get("inputs") or {}).get("parameters") or []:
        value = arguments.get(item["name"], str(item.get("value", item.get("default", ""))))
        word = word.replace(f"{{{{inputs.parameters.{item['name']}}}}}", value)
    return _named(word)


def _named(text: str) -> str:
    """Convert references in braces to the form of the facts."""

    def name(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if parts[0] == "tasks":
            return f"<{parts[1]}.{plain_name(parts[-1])}>"
        if parts[:2] == ["workflow", "parameters"]:
            return f"<param {plain_name(parts[-1])}>"
        return {"item": "<item>", "workflow.name": "<run>", "workflow.status": "<status>"}[match[1]]

    return BRACES.sub(name, text)


def _items(loop: str | list[str]) -> str:
    return json.dumps(json.loads(loop) if isinstance(loop, str) else loop)


def _resources(body: Raw) -> Pairs:
    resources = body["container"].get("resources") or {}
    amounts: set[tuple[str, ...]] = {
        (f"{side}.{name}", str(amount))
        for side in ("requests", "limits")
        for name, amount in (resources.get(side) or {}).items()
        if name in ("cpu", "memory")
    }
    if name := accelerator_of(body):
        amounts.add(("accelerator", name, str(resources["limits"][name])))
    return frozenset(amounts)


def _secrets(container: Raw) -> Pairs:
    secrets = {
        (item["secretRef"]["name"], key, key)
        for item in container.get("envFrom") or []
        if item.get("secretRef")
        for key in STORE_KEYS
    }
    for item in container.get("env") or []:
        if secret := (item.get("valueFrom") or {}).get("secretKeyRef"):
            secrets.add((secret["name"], secret["key"], item["name"]))
    return frozenset(secrets)


def _mounts(body: Raw) -> Pairs:
    volumes = {item["name"]: item for item in body.get("volumes") or []}
    mounts = set()
    for mount in body["container"].get("volumeMounts") or []:
        volume, path = volumes.get(mount["name"], {}), mount["mountPath"]
        if "emptyDir" in volume:
            scratch = volume["emptyDir"] or {}
            mounts.add((path, "emptyDir", scratch.get("medium", ""), scratch.get("sizeLimit", "")))
        elif claim := volume.get("persistentVolumeClaim"):
            mounts.add((path, "claim", claim["claimName"], mount.get("subPath", "")))
        elif secret := volume.get("secret"):
            mounts.add((path, "secret", secret["secretName"], ""))
        elif config := volume.get("configMap"):
            mounts.add((path, "configMap", config["name"], ""))
    return frozenset(mounts)


def _retry(strategy: Raw) -> tuple[float, ...]:
    if not int(strategy.get("limit") or 0):
        return ()
    backoff = strategy.get("backoff") or {}
    return (int(strategy["limit"]), math.ceil(parse_duration(backoff.get("duration"))), float(backoff.get("factor") or 1))
