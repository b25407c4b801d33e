"""Reader of a Kubeflow pipeline's facts from its IR and platform spec (two YAML documents), without the SDK.

Groups (exit handler, condition, loop) are separate components in the IR, and values are passed to a step through the inputs of
all enclosing groups. The reader descends with the values of each group and passes its edges to all steps inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from mm1_workflows.engines.kubeflow.facts import Facts, Pairs, StepFacts, plain_name, plain_value

Raw = dict[str, Any]
ONCE = "--once"
_VALUE = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_OUTPUT = re.compile(r"\{\{\$\.outputs\.(?:parameters|artifacts)\['([^']+)'\]\.(?:output_file|path)\}\}")
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] (==|!=) '([^']*)'")
_PLACEHOLDERS = {"{{$.pipeline_job_resource_name}}": "<run>"}


@dataclass(frozen=True)
class _Around:
    """Properties of a group that apply to all its steps."""

    values: dict[str, str] = field(default_factory=dict)
    """Input of the group -> its value."""
    before: frozenset[str] = frozenset()
    condition: str = ""
    loop: str = ""


def read(text: str) -> Facts:
    """Read the facts of a compiled pipeline (the text of its YAML file)."""
    documents = [document for document in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if document]
    platform = documents[1]["platforms"]["kubernetes"] if len(documents) > 1 else {}
    return _Reader(documents[0], platform).read()


class _Reader:
    """Reader of one pipeline."""

    def __init__(self, pipeline: Raw, platform: Raw) -> None:
        self.pipeline = pipeline
        self.components: Raw = pipeline["components"]
        self.executors: Raw = pipeline["deploymentSpec"]["executors"]
        self.pods: Raw = (platform.get("deploymentSpec") or {}).get("executors") or {}
        self.config: Raw = platform.get("pipelineConfig") or {}

    def read(self) -> Facts:
        root = self.pipeline["root"]
        inputs: Raw = (root.get("inputDefinitions") or {}).get("parameters") or {}
        around = _Around({name: f"<param {plain_name(name)}>" for name in inputs})
        return Facts(
            name=self.pipeline["pipelineInfo"]["name"],
            parameters=frozenset(
                (name, plain_value(raw["defaultValue"])) if "defaultValue" in raw else (name,) for name, raw in inputs.items()
            ),
            deadline_s=int(self.config.get("activeDeadlineSeconds") or 0),
            steps=dict(self._dag(root["dag"], around)),
        )

    # -- the graph ----------------------------------------------------------------------------------------------------

    def _dag(self, dag: Raw, around: _Around) -> Iterator[tuple[str, StepFacts]]:
        tasks = dag["tasks"]
        for key, task in tasks.items():
            given = (task.get("inputs") or {}).get("parameters") or {}
            values = {name: self._value(raw, tasks, around) for name, raw in given.items()}
            at_exit = any("taskFinalStatus" in raw for raw in given.values()) or self._is_exit(task)
            waits = frozenset(step for other in task.get("dependentTasks") or [] for step in self._steps_in(tasks, other))
            inner = replace(around, values=values, before=frozenset() if at_exit else around.before | waits)
            if condition := (task.get("triggerPolicy") or {}).get("condition"):
                inner = replace(inner, condition=self._condition(condition, values))
            if iterator := task.get("parameterIterator"):
                inner = replace(inner, loop=self._loop(iterator, values), values=values | {iterator["itemInput"]: "<item>"})
            component = self.components[task["componentRef"]["name"]]
            if "dag" in component:
                yield from self._dag(component["dag"], inner)
            else:
                yield self._name(key, task), self._step(component["executorLabel"], task, inner, at_exit)

    def _is_exit(self, task: Raw) -> bool:
        return (task.get("triggerPolicy") or {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"

    def _name(self, key: str, task: Raw) -> str:
        return str((task.get("taskInfo") or {}).get("name") or key)

    def _steps_in(self, tasks: Raw, key: str) -> Iterator[str]:
        component = self.components[tasks[key]["componentRef"]["name"]]
        if "dag" in component:
            for inner in component["dag"]["tasks"]:
                yield from self._steps_in(component["dag"]["tasks"], inner)
        else:
            yield self._name(key, tasks[key])

    def _value(self, raw: Raw, tasks: Raw, around: _Around) -> str:
        if name := raw.get("componentInputParameter"):
            return around.values[name]
        if output := raw.get("taskOutputParameter"):
            return self._output(tasks, output["producerTask"], output["outputParameterKey"])
        if "taskFinalStatus" in raw:
            return "<status>"
        constant = raw["runtimeValue"]["constant"]
        return _PLACEHOLDERS.get(constant, constant) if isinstance(constant, str) else plain_value(constant)

    def _output(self, tasks: Raw, key: str, output: str) -> str:
        component = self.components[tasks[key]["componentRef"]["name"]]
        if "dag" not in component:
            return f"<{self._name(key, tasks[key])}.{plain_name(output)}>"
        inner = component["dag"]["outputs"]["parameters"][output]["valueFromParameter"]
        return self._output(component["dag"]["tasks"], inner["producerSubtask"], inner["outputParameterKey"])

    def _condition(self, text: str, values: dict[str, str]) -> str:
        match = _CONDITION.fullmatch(text)
        return f"{values[match[1]]} {match[2]} {match[3]}" if match else text

    def _loop(self, iterator: Raw, values: dict[str, str]) -> str:
        items = iterator["items"]
        return json.dumps(json.loads(items["raw"])) if "raw" in items else values[items["inputParameter"]]

    # -- one step -----------------------------------------------------------------------------------------------------

    def _step(self, label: str, task: Raw, around: _Around, at_exit: bool) -> StepFacts:
        container, pod = self.executors[label]["container"], self.pods.get(label) or {}
        argv = tuple(self._word(word, around) for word in [*container.get("command", []), *(container.get("args") or [])])
        return StepFacts(
            image=container["image"],
            argv=argv[:-1] if argv[-1:] == (ONCE,) and task.get("retryPolicy") else argv,  # part of the loss `retry`
            before=around.before,
            condition=around.condition,
            loop=around.loop,
            at_exit=at_exit,
            resources=_resources(container.get("resources") or {}),
            selector=frozenset(((pod.get("nodeSelector") or {}).get("labels") or {}).items()),
            tolerations=frozenset(
                tuple(str(item.get(key, "")) for key in ("key", "operator", "value", "effect", "tolerationSeconds"))
                for item in pod.get("tolerations") or []
            ),
            secrets=frozenset(
                (secret["secretName"], pair["secretKey"], pair["envVar"])
                for secret in pod.get("secretAsEnv") or []
                for pair in secret["keyToEnv"]
            ),
            environment=frozenset((item["name"], item.get("value", "")) for item in container.get("env") or []),
            mounts=_mounts(pod),
            labels=frozenset(((pod.get("podMetadata") or {}).get("labels") or {}).items()),
            retry=_retry(task.get("retryPolicy") or {}),
            timeout_s=int(pod.get("activeDeadlineSeconds") or 0),
        )

    def _word(self, word: str, around: _Around) -> str:
        word = _OUTPUT.sub(lambda match: f"<output {plain_name(match[1])}>", word)
        return _VALUE.sub(lambda match: around.values[match[1]], word)


def _resources(raw: Raw) -> Pairs:
    names = {
        "resourceCpuRequest": "requests.cpu",
        "resourceCpuLimit": "limits.cpu",
        "resourceMemoryRequest": "requests.memory",
        "resourceMemoryLimit": "limits.memory",
    }
    resources: set[tuple[str, ...]] = {(name, str(raw[key])) for key, name in names.items() if key in raw}
    if accelerator := raw.get("accelerator"):
        resources.add(("accelerator", accelerator["resourceType"], str(accelerator["resourceCount"])))
    return frozenset(resources)


def _mounts(pod: Raw) -> Pairs:
    mounts = {
        (item["mountPath"], "emptyDir", item.get("medium", ""), item.get("sizeLimit", ""))
        for item in pod.get("emptyDirMounts") or []
    }
    mounts |= {(item["mountPath"], "claim", _claim(item), item.get("subPath", "")) for item in pod.get("pvcMount") or []}
    mounts |= {(item["mountPath"], "secret", item["secretName"], "") for item in pod.get("secretAsVolume") or []}
    mounts |= {(item["mountPath"], "configMap", item["configMapName"], "") for item in pod.get("configMapAsVolume") or []}
    return frozenset(mounts)


def _claim(raw: Raw) -> str:
    return str(raw.get("constant") or raw["pvcNameParameter"]["runtimeValue"]["constant"])


def _retry(policy: Raw) -> tuple[float, ...]:
    if not policy.get("maxRetryCount"):
        return ()
    return (policy["maxRetryCount"], float(str(policy["backoffDuration"]).removesuffix("s")), float(policy["backoffFactor"]))
