"""The chart's trial on a cluster: a store of its own, credentials that upgrades keep, a run, and nothing left afterwards."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import BASE_IMAGE, ROOT, Cluster
from tests.support.helm import BINARIES, CHART, Helm, HelmError, everything, second_namespace

SERVER = "localhost/mm1-minio:test"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
COMMAND = (
    'mkdir -p "/data/$BUCKET" && export MINIO_ROOT_USER="$AWS_ACCESS_KEY_ID" MINIO_ROOT_PASSWORD="$AWS_SECRET_ACCESS_KEY" '
    '&& exec minio server /data --address ":$PORT"'
)


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    with second_namespace(cluster, "trial") as there:
        yield there


@pytest.fixture(scope="module")
def chart(place: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with the cluster's own profile in the place of `smoke`."""
    chart = tmp_path_factory.mktemp("chart") / "mm1"
    shutil.copytree(CHART, chart)
    shutil.rmtree(chart / "files" / "smoke")
    place.mm1("compile", "--engine", "template", "--profile", place.profile, "--to", str(chart / "files" / "smoke"))
    return chart


@pytest.fixture(scope="module", params=BINARIES)
def helm(request: pytest.FixtureRequest, place: Cluster, chart: Path) -> Helm:
    return Helm(request.param, chart, place.environment)


@pytest.fixture(scope="module")
def values(place: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trial with the server that the machine has, in an image without a registry, and without a storage class."""
    folder = tmp_path_factory.mktemp("server")
    program = shutil.which("minio", path=place.environment["PATH"])
    if program is None:
        pytest.skip("no program minio on the PATH, from which to make an image")
    shutil.copy(program, folder / "minio")
    (folder / "Containerfile").write_text(f"FROM {BASE_IMAGE}\nCOPY minio /usr/local/bin/minio\n")
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    build = ["podman", "--runtime", "runc", "build", *limits, "--tag", SERVER, str(folder)]
    subprocess.run(build, env=place.environment, cwd=ROOT, check=True, capture_output=True, timeout=600)
    place.run(*place.tool, "load-image", SERVER)
    return {"trial": {"enabled": True, "image": SERVER, "command": ["sh", "-c", COMMAND], "volume": {"persistent": False}}}


def keys(place: Cluster) -> dict[str, str]:
    data = place.get("secret", "mm1-store")["data"]
    return {name: base64.b64decode(data[name]).decode() for name in KEYS}


def test_a_secret_of_the_user_is_not_taken_over(place: Cluster, helm: Helm, values: dict[str, Any]) -> None:
    if not place.get("secret", "mm1-store"):
        place.kubectl("create", "secret", "generic", "mm1-store", "--from-literal=AWS_ACCESS_KEY_ID=mine")
    with pytest.raises(HelmError, match=r"trial\.enabled: expected no Secret mm1-store, .*delete it"):
        helm.install("mm1", place.namespace, values)
    place.kubectl("delete", "secret", "mm1-store")


def test_credentials_live_through_upgrades_and_rollbacks_and_nothing_is_left(
    place: Cluster, helm: Helm, values: dict[str, Any]
) -> None:
    before = everything(place)
    where = ("--namespace", place.namespace)
    try:
        notes = helm.install("mm1", place.namespace, values)
        assert "are lost with it" in notes
        place.kubectl("rollout", "status", "deployment/mm1-trial-store", "--timeout=120s", timeout=140)
        first = keys(place)
        assert {len(value) for value in first.values()} == {20, 40}
        queued = values | {"submitters": [{"kind": "Group", "name": "engineers"}], "queue": {"clusterQueue": "all"}}
        helm.install("mm1", place.namespace, queued)
        assert keys(place) == first and place.get("localqueue", "mm1")
        helm.run("rollback", "mm1", "1", *where)
        assert keys(place) == first
        assert not place.get("localqueue", "mm1") and not place.get("role", "mm1-submitter")
        helm.install("mm1", place.namespace, values | {"trial": {"enabled": False}})
        assert not place.get("secret", "mm1-store") and not place.get("deployment", "mm1-trial-store")
    finally:
        helm.uninstall("mm1", place.namespace)
    place.wait(f"nothing of the chart to be left beside {sorted(before)}", lambda: everything(place) <= before, 60)


def test_a_run_needs_nothing_but_the_trial(place: Cluster, helm: Helm, values: dict[str, Any]) -> None:
    """The steps of ingest, from the installed template: store, bucket, keys, Argo's artifacts."""
    before = everything(place)
    try:
        helm.install("mm1", place.namespace, values)
        place.kubectl("rollout", "status", "deployment/mm1-trial-store", "--timeout=120s", timeout=140)
        done = place.mm1("submit", "template/mm1-ingest", "-n", place.namespace, "--watch", check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        files = place.kubectl("exec", "deployment/mm1-trial-store", "--", "ls", "/data/data", "/data/data/store")
        assert {"argo", "store", "manifests", "blobs", "runs"} <= set(files.replace(":", "").split())
    finally:
        place.kubectl("delete", "workflows", "--all", "--wait=true", check=False)
        helm.uninstall("mm1", place.namespace)
    place.wait(f"nothing of the chart to be left beside {sorted(before)}", lambda: everything(place) <= before, 60)
