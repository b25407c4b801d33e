"""The whole chain on Argo: the project's own workflow files, the S3 store, and the same digests as on one machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mm1.manifests import MANIFEST_NAME
from mm1.store.base import Store
from mm1.store.open import open_store
from tests.support.cluster import ROOT, Cluster

FEW = "train.steps=2 train.global_batch=4 train.micro_batch=4 schedule.warmup_steps=1"
PARAMETERS = (
    f"text_overrides={FEW}",
    f"overrides={FEW}",
    f"sft_overrides={FEW}",
    "items=8",
    "shots=0 2",
    "tasks=captions vague@2 text@0 instruct@0",
    "chat_tasks=captions@0 instruct",
    "rules=captions/0/content_f1>=0",
)
DATA = ("ingest", "text-mix", "mix", "instruction-mix")


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Store:
    """The cluster's store, seen from here."""
    return open_store(cluster.store)


def records(store: Store, run: str) -> dict[str, dict[str, Any]]:
    """The run's records by task."""
    found = [store.read_json(key) for key in store.list(f"runs/{run}/")]
    return {record["task"]: record for record in found if record}


def digests(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Task -> digest of the manifest that it gave."""
    matches = {task: MANIFEST_NAME.match(record["outputs"]["manifest"]) for task, record in found.items()}
    return {task: match["digest"] for task, match in matches.items() if match}


@pytest.fixture(scope="module")
def here(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Store]]:
    """The same chain on this machine, started beside the other: the process and its store."""
    folder = tmp_path_factory.mktemp("here")
    given = [word for parameter in PARAMETERS for word in ("-p", parameter)]
    # one core: the ranks on the cluster have one thread, and so has this
    command = ["taskset", "--cpu-list", "0", sys.executable, "-m", "mm1_workflows.cli", "run", "workflows/full.py"]
    command += ["--run", "here", "--store", str(folder / "store"), "--folder", str(folder / "runs"), *given]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True)
    yield process, open_store(str(folder / "store"))
    process.kill()


@pytest.fixture(scope="module")
def first(cluster: Cluster, here: tuple[subprocess.Popen[str], Store]) -> str:
    """The chain, submitted and followed to its end; the workflow's name."""
    name = cluster.submit("workflows/full.py", *PARAMETERS)
    done = cluster.mm1("watch", name, "-n", cluster.namespace, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return name


def test_the_chain_gives_what_it_gives_on_one_machine(
    store: Store, first: str, here: tuple[subprocess.Popen[str], Store]
) -> None:
    process, local_store = here
    assert process.wait(900) == 0
    there, local = digests(records(store, first)), digests(records(local_store, "here"))
    assert {task: there[task] for task in DATA} == {task: local[task] for task in DATA}
    assert set(there) == set(local)
    differing = {task for task in there if there[task] != local[task]} - {"report"}
    assert not differing, f"same processor, same threads, other digests: {sorted(differing)}"


def test_a_second_submission_does_no_work_again(cluster: Cluster, store: Store, first: str) -> None:
    started = time.monotonic()
    name = cluster.submit("workflows/full.py", *PARAMETERS)
    done = cluster.mm1("watch", name, "-n", cluster.namespace)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout[-3000:]
    hits = {task: record["cache_hit"] for task, record in records(store, name).items()}
    assert hits.pop("report") is False and all(hits.values()) and len(hits) == 11
    assert not cluster.items("jobsets", f"mm1.dev/run={name}"), "a cached training step starts no ranks"
    print(f"second submission: {seconds:.1f} s")


def test_report_and_metrics_are_artifacts_of_their_steps(cluster: Cluster, first: str) -> None:
    nodes = cluster.workflow(first)["status"]["nodes"].values()
    found = {
        artifact["name"]: artifact["s3"]["key"]
        for node in nodes
        for artifact in node.get("outputs", {}).get("artifacts", [])
        if "s3" in artifact
    }
    assert {"report-html", "metrics-json", "summary-md", "main-logs"} <= set(found)
    objects = open_store("s3://artifacts/")
    page = objects.read(found["report-html"]).decode()
    assert page.lstrip().lower().startswith("<!doctype html") and first in page
    assert (ROOT / "workflows/full.py").is_file()
