"""Helm for tests: render a chart and read what came out, install and uninstall it.

Both major versions are used side by side (`helm` is 4, `helm3` is 3 on the test bed); values go in through standard input.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster

CHART = Path(__file__).parents[2] / "charts" / "mm1"
BINARIES = ("helm", "helm3")
_SOURCE = re.compile(r"^---\n# Source: [^/\n]+/(?P<path>[^\n]+)\n", re.MULTILINE)

SMALL = """\
# A workflow template in the shape of the compiled ones, that needs no image of ours.
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata:
  name: mm1-small
  labels:
    app.kubernetes.io/part-of: mm1
spec:
  entrypoint: small
  serviceAccountName: mm1-step
  activeDeadlineSeconds: 300
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  arguments:
    parameters:
    - {name: number, value: '1'}
    - {name: needed}
  templates:
  - name: small
    dag:
      tasks:
      - name: say
        template: step-say
        arguments: {parameters: [{name: text, value: '{{workflow.parameters.number}} {{workflow.parameters.needed}}'}]}
  - name: step-say
    metadata: {labels: {app.kubernetes.io/part-of: mm1, mm1.dev/pool: cpu, mm1.dev/step: say}}
    inputs: {parameters: [{name: text}]}
    outputs: {parameters: [{name: said, valueFrom: {path: /tmp/said}}]}
    container:
      image: localhost/debian-python:3.11
      command: [python3, -c]
      args:
      - |
        import os
        token = os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
        open("/tmp/said", "w").write("{{inputs.parameters.text}} " + ("token" if token else "no token"))
      resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 500m, memory: 64Mi}}
      securityContext:
        {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsNonRoot: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: tmp, mountPath: /tmp}]
    volumes: [{name: tmp, emptyDir: {}}]
"""
# The same, but its main container sees no token: only Argo's executor has one.
HIDDEN = SMALL.replace("name: mm1-small", "name: mm1-hidden").replace(
    "  serviceAccountName: mm1-step\n",
    "  serviceAccountName: mm1-step\n  automountServiceAccountToken: false\n  executor: {serviceAccountName: mm1-executor}\n",
)


class HelmError(Exception):
    """Helm refused; the message is what it said."""


@dataclass(frozen=True)
class Helm:
    """One version of Helm, working on one chart."""

    binary: str
    """The program, found by the PATH of `environment`."""
    chart: Path
    environment: dict[str, str]

    def run(self, *arguments: str, values: dict[str, Any] | None = None, timeout_s: float = 300) -> str:
        """What a command prints.

        Raises:
            HelmError: it failed.
        """
        program = shutil.which(self.binary, path=self.environment["PATH"])
        if program is None:
            raise HelmError(f"{self.binary} is not on the PATH")
        command = [program, *arguments]
        if values is not None:
            command += ["--values", "-"]
        done = subprocess.run(
            command,
            input=yaml.safe_dump(values or {}),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise HelmError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def text(self, values: dict[str, Any] | None = None, namespace: str = "there", release: str = "mm1") -> str:
        """The rendered chart."""
        # A Helm built from its Go module takes Kubernetes for 1.20 when it asks no cluster.
        where = ["--namespace", namespace, "--kube-version", "1.36.0"]
        return self.run("template", release, str(self.chart), *where, values=values or {})

    def objects(self, values: dict[str, Any] | None = None, namespace: str = "there") -> list[dict[str, Any]]:
        """The rendered objects."""
        return [document for document in yaml.safe_load_all(self.text(values, namespace)) if document]

    def install(self, release: str, namespace: str, values: dict[str, Any], *more: str) -> str:
        """Install, or upgrade what is installed; gives the notes."""
        where = ["--namespace", namespace]
        return self.run("upgrade", "--install", release, str(self.chart), *where, *more, values=values)

    def uninstall(self, release: str, namespace: str) -> None:
        """Remove the release and wait until its objects are gone."""
        self.run("uninstall", release, "--namespace", namespace, "--wait", "--ignore-not-found")


def by_source(text: str) -> dict[str, list[str]]:
    """The documents of `helm template` by the chart's file that they came from."""
    parts = _SOURCE.split(text)
    found: dict[str, list[str]] = {}
    for path, document in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(path, []).append(document)
    return found


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of a kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def small_chart_at(folder: Path) -> Path:
    """A copy of the chart with one more profile, `small`, with workflow templates that need no image of ours."""
    shutil.copytree(CHART, folder)
    (folder / "files" / "small").mkdir(parents=True)
    (folder / "files" / "small" / "small.yaml").write_text(SMALL)
    (folder / "files" / "small" / "hidden.yaml").write_text(HIDDEN)
    return folder


def everything(place: Cluster) -> set[str]:
    """Names of all objects of the namespace that live longer than a pod."""
    kinds = place.run("kubectl", "api-resources", "--namespaced", "--verbs=list", "--output=name").stdout.split()
    passing = ("events", "events.events.k8s.io", "pods", "pods.metrics.k8s.io", "leases.coordination.k8s.io")
    asked = ",".join(kind for kind in kinds if kind not in passing)
    return set(place.kubectl("get", asked, "--output=name", "--ignore-not-found").split())


@contextmanager
def installed(place: Cluster, helm: Helm, values: dict[str, Any], release: str = "mm1") -> Iterator[str]:
    """The chart inside the block, which gets its notes; afterwards nothing of it may be left."""
    before = everything(place)
    try:
        yield helm.install(release, place.namespace, values)
    finally:
        helm.uninstall(release, place.namespace)
        place.kubectl("delete", "workflows", "--all", "--wait=true")
    place.wait(f"nothing of the chart to be left beside {sorted(before)}", lambda: everything(place) <= before, 60)


@contextmanager
def second_namespace(cluster: Cluster, name: str) -> Iterator[Cluster]:
    """A restricted namespace that the chart is not in yet, with the store's Secret and the dependencies."""
    if not cluster.tool:
        pytest.skip("MM1_CLUSTER_UP names no command that makes a second namespace")
    there = Cluster(f"{cluster.namespace}-{name}", cluster.environment, cluster.tool, cluster.profile, cluster.store)
    there.run(*there.tool, "namespace", there.namespace, "--level", "restricted")
    there.run("kubectl", "label", "namespace", there.namespace, "pod-security.kubernetes.io/warn=restricted", "--overwrite")
    folder = next(path for path in sys.path if path.endswith("site-packages"))
    there.run(*there.tool, "volume", "deps", folder, "--namespace", there.namespace)
    keys = {name: there.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    keys["S3_ENDPOINT"] = there.environment["S3_POD_ENDPOINT"]
    there.apply(there.object("v1", "Secret", "mm1-store", stringData=keys))
    try:
        yield there
    finally:
        there.remove()
