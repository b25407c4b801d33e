"""Small Argo workflows of one-line Python programs, for tests of the command line on a cluster: seconds, not minutes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = "localhost/debian-python:3.11"
ACCOUNT = "mm1-step"
COUNT = """import time
for number in range(int('{{inputs.parameters.lines}}')):
    print('line', number, flush=True)
    time.sleep(0.05)
"""
SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Step:
    """A task with its own template."""

    program: str
    """Python; ``{{inputs.parameters.lines}}`` is the workflow's parameter ``lines``."""
    after: tuple[str, ...] = ()
    image: str = IMAGE
    memory: str = "64Mi"
    retries: int = 0
    cpu: str = "50m"

    def template(self, name: str) -> dict[str, Any]:
        """The container template."""
        amounts = {"cpu": self.cpu, "memory": self.memory}
        made: dict[str, Any] = {
            "name": f"step-{name}",
            "inputs": {"parameters": [{"name": "lines", "default": "1"}]},
            "metadata": {"annotations": {"mm1.dev/inputs": json.dumps({"lines": "integer"})}},
            "podSpecPatch": json.dumps({"terminationGracePeriodSeconds": 2}),
            "container": {
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3"],
                "args": ["-u", "-c", self.program],
                "securityContext": SECURITY,
                "resources": {"requests": amounts, "limits": amounts},
            },
        }
        if self.retries:
            expression = 'asInt(lastRetry.exitCode) in [84, 85, 86, 87] || lastRetry.status == "Error"'
            made["retryStrategy"] = {"limit": self.retries, "expression": expression, "backoff": {"duration": "1s"}}
        return made


def workflow(
    steps: dict[str, Step], *, at_exit: str = "", lines: int = 3, kind: str = "Workflow", name: str = ""
) -> dict[str, Any]:
    """A workflow of one DAG; its only parameter is ``lines``."""
    given = {"arguments": {"parameters": [{"name": "lines", "value": "{{workflow.parameters.lines}}"}]}}
    tasks = [
        {"name": key, "template": f"step-{key}", **given} | ({"depends": " && ".join(step.after)} if step.after else {})
        for key, step in steps.items()
    ]
    templates = [{"name": "main", "dag": {"tasks": tasks}}, *(step.template(key) for key, step in steps.items())]
    spec: dict[str, Any] = {
        "entrypoint": "main",
        "serviceAccountName": ACCOUNT,
        "activeDeadlineSeconds": 600,
        "arguments": {"parameters": [{"name": "lines", "value": str(lines)}]},
        "templates": templates,
    }
    if at_exit:
        exit_dag = {"name": "at-exit", "dag": {"tasks": [{"name": "farewell", "template": "step-farewell"}]}}
        spec["templates"] += [exit_dag, Step(at_exit).template("farewell")]
        spec["onExit"] = "at-exit"
    labels = {"app.kubernetes.io/part-of": "mm1"}
    metadata = {"name": name, "labels": labels} if name else {"generateName": "small-", "labels": labels}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def write(path: Path, document: dict[str, Any]) -> str:
    """The workflow as a file that can be submitted."""
    path.write_text(json.dumps(document, indent=1))
    return str(path)
