"""A real cluster for tests: found by KUBECONFIG, or started by the command in MM1_CLUSTER_UP.

The command in MM1_CLUSTER_UP has the subcommands ``up``, ``env`` (prints ``export NAME=value`` lines), ``namespace NAME``,
``volume NAME FOLDER --namespace NS``, ``base-image`` and ``load-image NAME``. Without it the cluster that KUBECONFIG names must
hold already what a site prepares: a namespace (MM1_CLUSTER_NAMESPACE) with the Secret ``mm1-store``, and images that a profile
(MM1_CLUSTER_PROFILE) names.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mm1_workflows.authoring import profiles

ROOT = Path(__file__).resolve().parents[2]
KUEUE = "kueue.x-k8s.io/v1beta2"
BASE_IMAGE = "localhost/debian-python:3.11"
THIN_IMAGE = "localhost/mm1-thin:test"
TRAIN = "tests/support/cluster_workflows/train.py"
FAN_OUT = "tests/support/cluster_workflows/fan_out.py"
NODE_NAME = "workflows.argoproj.io/node-name"
NO_CLUSTER = (
    "no cluster for the tests: set KUBECONFIG (and MM1_CLUSTER_NAMESPACE, MM1_CLUSTER_PROFILE), or MM1_CLUSTER_UP to a command "
    "that starts one"
)


def start() -> dict[str, str]:
    """The environment of the cluster, started if need be.

    Raises:
        RuntimeError: there is no cluster and no command that starts one.
    """
    tool = os.environ.get("MM1_CLUSTER_UP")
    if not tool:
        if not os.environ.get("KUBECONFIG"):
            raise RuntimeError(NO_CLUSTER)
        return dict(os.environ)
    subprocess.run([*shlex.split(tool), "up"], check=True, stdout=sys.stderr)
    text = subprocess.run(["bash", "-c", f'eval "$({tool} env)"; env -0'], check=True, capture_output=True).stdout.decode()
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


@dataclass
class Cluster:
    """A namespace of a cluster, and commands in it."""

    namespace: str
    environment: dict[str, str]
    tool: list[str]
    """The command of MM1_CLUSTER_UP; empty when the site has prepared everything."""
    profile: str = "test"
    store: str = ""

    # -- commands ---------------------------------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True, timeout: float = 600, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command with the cluster's environment."""
        done = subprocess.run(
            argv, env=self.environment, cwd=ROOT, text=True, capture_output=True, timeout=timeout, check=False, **options
        )
        if check and done.returncode:
            raise AssertionError(
                f"{shlex.join(argv)} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def kubectl(self, *argv: str, check: bool = True, **options: Any) -> str:
        """kubectl in the namespace; its output."""
        return self.run("kubectl", "--namespace", self.namespace, *argv, check=check, **options).stdout

    def get(self, *argv: str) -> dict[str, Any]:
        """``kubectl get ... -o json``; empty when it is not there."""
        text = self.kubectl("get", *argv, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else {}

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        return self.get(kind, *(["--selector", selector] if selector else [])).get("items", [])

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", input=json.dumps(document))

    def mm1(self, *argv: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Our command line, as a user types it."""
        return self.run(sys.executable, "-m", "mm1_workflows.cli", *argv, check=check, timeout=timeout)

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = 240) -> Any:
        """Wait until a condition gives something.

        Raises:
            AssertionError: it does not in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.5)
        raise AssertionError(
            f"waited {seconds:g} s in vain for {what}\n{self.kubectl('get', 'pods,jobsets,workflows', check=False)}"
        )

    # -- runs -------------------------------------------------------------------------------------------------

    def submit(self, file: str, *parameters: str, profile: str = "", options: Sequence[str] = ()) -> str:
        """Submit a workflow file; the workflow's name."""
        given = [word for parameter in (f"store={self.store}", *parameters) for word in ("-p", parameter)]
        done = self.mm1("submit", file, "--profile", profile or self.profile, "-n", self.namespace, *given, *options)
        return (done.stdout + done.stderr).split(" submitted")[0].split()[-1]

    def workflow(self, name: str) -> dict[str, Any]:
        """A workflow."""
        return self.get("workflow", name)

    def phase(self, name: str) -> str:
        """A workflow's phase."""
        return self.workflow(name).get("status", {}).get("phase", "")

    def finished(self, name: str, seconds: float = 600) -> dict[str, Any]:
        """Wait for a workflow to end; its object."""
        self.wait(f"the end of {name}", lambda: self.phase(name) in ("Succeeded", "Failed", "Error"), seconds)
        return self.workflow(name)

    def log(self, workflow: str, task: str) -> str:
        """What is left of a task's log, of all its attempts."""
        pods = self.items("pods", f"workflows.argoproj.io/workflow={workflow}")
        names = [pod["metadata"]["name"] for pod in pods if task in pod["metadata"]["annotations"][NODE_NAME]]
        return "".join(self.kubectl("logs", name, "--container", "main", check=False) for name in names)

    # -- setting up -------------------------------------------------------------------------------------------

    def prepare(self, chart: Path) -> None:
        """A namespace as a site would make it: Secret of the store, dependencies as a claim, thin image, queue, chart."""
        self.run(*self.tool, "namespace", self.namespace, "--level", "restricted")
        folder = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        self.run(*self.tool, "volume", "deps", str(folder), "--namespace", self.namespace)
        self.run(*self.tool, "volume", "tests", str(ROOT / "tests"), "--namespace", self.namespace)
        keys = {
            "S3_ENDPOINT": self.environment["S3_POD_ENDPOINT"],
            "AWS_ACCESS_KEY_ID": self.environment["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": self.environment["AWS_SECRET_ACCESS_KEY"],
        }
        self.apply(self.object("v1", "Secret", "mm1-store", stringData=keys))
        self.quota(gpus=8)
        shutil.copytree(ROOT / "charts" / "mm1", chart)
        self.mm1("compile", "--engine", "template", "--profile", self.profile, "--to", str(chart / "files" / self.profile))
        values = {"profile": self.profile, "queue": {"name": "mm1", "clusterQueue": self.namespace}}
        helm = ["helm", "upgrade", "--install", "mm1", str(chart), "--namespace", self.namespace, "--values", "-"]
        self.run(*helm, input=json.dumps(values))

    def variant(
        self, path: Path, changes: Callable[[dict[str, Any]], None], *, inject: bool = False, **environment: str
    ) -> str:
        """A profile like the cluster's own with changes; the tests' folder can be imported under it.

        Args:
            path: where to write it.
            changes: gets the profile's content, to change it.
            inject: let ranks do what :mod:`tests.support.injected.sitecustomize` is told by the environment.
            environment: of all pods.
        """
        known = profiles.FOLDER / f"{self.profile}.yaml"
        content = yaml.safe_load((known if known.is_file() else Path(self.profile)).read_text())
        paths = ["/opt/tests", *(["/opt/tests/tests/support/injected"] if inject else [])]
        content["environment"]["PYTHONPATH"] += "".join(f":{one}" for one in paths)
        content["environment"] |= environment
        content["volumes"].append({"claim": "tests", "mount_path": "/opt/tests/tests"})
        changes(content)
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def object(self, version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
        """An object of the namespace."""
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}, **rest}

    def quota(self, gpus: int) -> None:
        """Kueue's quota of the namespace: a ClusterQueue of the same name."""
        resources = [
            {"name": "cpu", "nominalQuota": "100"},
            {"name": "memory", "nominalQuota": "1000Gi"},
            {"name": "nvidia.com/gpu", "nominalQuota": str(gpus)},
        ]
        flavors = [{"name": self.namespace, "resources": resources}]
        groups = [{"coveredResources": [one["name"] for one in resources], "flavors": flavors}]
        selector = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        spec = {"namespaceSelector": selector, "resourceGroups": groups}
        self.apply(
            {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": self.namespace}},
            {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": self.namespace}, "spec": spec},
        )

    def remove(self) -> None:
        """Take the namespace away again."""
        self.run("kubectl", "delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found", check=False)
        for kind in ("clusterqueues", "resourceflavors"):
            self.run("kubectl", "delete", kind, self.namespace, "--wait=false", "--ignore-not-found", check=False)
        volumes = [f"{self.namespace}-{claim}" for claim in ("deps", "tests", "benchmarks")]
        self.run("kubectl", "delete", "persistentvolume", *volumes, "--wait=false", "--ignore-not-found", check=False)


@dataclass(frozen=True)
class Mixtures:
    """Addresses of small mixtures in the cluster's store."""

    text: str
    mixed: str


def make_mixtures(cluster: Cluster, folder: Path) -> Mixtures:
    """Ingest a small world into the cluster's store, from here: what training tests start from."""
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part

    for part in ("captions", "interleaved", "text"):
        write_part(part, folder / part, WorldConfig.small())

    def step(name: str, *arguments: str) -> str:
        out = folder / f"{name}-{len(list(folder.iterdir()))}"
        where = [f"--store={cluster.store}", "--run=prepared", f"--out.manifest={out}"]
        cluster.run(sys.executable, "-m", f"mm1_components.{name}", *arguments, *where)
        return out.read_text()

    sources = [f"--{part}={folder / part}" for part in ("captions", "interleaved", "text")]
    raw = step("ingest", *sources, "--preset=toy", "--vocabulary=512")
    sizes = ["--sequence-length=128", "--max-images=24", "--image-tokens=4", "--image-size=32"]
    return Mixtures(
        text=step("data_mix", f"--data={raw}", "--weights=text=1", *sizes), mixed=step("data_mix", f"--data={raw}", *sizes)
    )


def load_thin_image(tool: list[str], environment: dict[str, str]) -> None:
    """Build the project's thin image and bring it into the cluster."""

    def run(*argv: str) -> None:
        done = subprocess.run(argv, env=environment, cwd=ROOT, text=True, capture_output=True, timeout=900, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(argv)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")

    run(*tool, "base-image")
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    build = ["podman", "--runtime", "runc", "build", *limits, "--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
    run(*build, "--file", "components/images/Containerfile", "--target", "thin", "--tag", THIN_IMAGE, ".")
    run(*tool, "load-image", THIN_IMAGE)
