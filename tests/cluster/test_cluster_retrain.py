"""The scheduled retraining from new data to the answer of the served model, without a hand, on a real cluster.

The chart is installed with a schedule that fires each minute. Data arrive in a bucket; a client in a pod asks twice a second
behind the Service. MM1_CLUSTER_RECORD=file.json keeps requests and events for `docs/images/draw_retraining.py`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.errors import Outcome
from mm1.lineage import serving
from mm1.lineage.records import read_run
from mm1.manifests import Deployment, EvalReport, load, publish, split_uri
from mm1.store.base import BlobRef, Store
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from mm1_workflows.authoring import profiles
from tests.support.cluster import Cluster
from tests.support.helm import Helm, installed, second_namespace, small_chart_at
from tests.support.retraining_scenes import Scenes, captions_arrive, webhook, without_controller
from tests.support.serving_client import client_pod
from tests.support.tiny_mm1 import picture

PAIRS = 1500
"""New captions of a scene."""
BENCHMARKS = "/opt/benchmarks"
SIZE = "train.global_batch=16 train.micro_batch=16"
ARGUMENTS = {
    "interleaved": "",
    "text": "",
    "instructions": "",
    "sources": "captions",
    "preset": "toy",
    "vocabulary": 400,
    "weights": "captions=1",
    "sft_weights": "captions=1",
    "overrides": f"{SIZE} schedule.warmup_steps=5 train.steps=30",
    "sft_overrides": f"{SIZE} train.steps=3 schedule.warmup_steps=1",
    "benchmarks": BENCHMARKS,
    "items": 128,
    "tasks": "captions@0",
    "rules": "captions/0/content_f1>=0.1 captions/0/content_f1>=serving-0.08",
    "canary_seconds": 10,
    "questions": 5,
    "ready_seconds": 300,
}
A_MOMENT = "0.002"
"""Device hours that are used up while the ranks start, or soon after."""


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A namespace with a webhook and the benchmarks, and a store of its own."""
    with second_namespace(cluster, "retrain") as there:
        there.quota(gpus=8)
        folder = tmp_path_factory.mktemp("retrain")
        folder.chmod(0o755)
        benchmarks = write_part("benchmarks", folder / "benchmarks", WorldConfig(num_eval_items=128))
        there.run(*there.tool, "volume", "benchmarks", str(benchmarks), "--namespace", there.namespace)
        content = yaml.safe_load((profiles.FOLDER / f"{there.profile}.yaml").read_text())
        content["notify_secret"] = "mm1-notify"
        content["volumes"].append({"claim": "benchmarks", "mount_path": BENCHMARKS})
        (folder / "retrain.yaml").write_text(yaml.safe_dump(content))
        there = dataclasses.replace(there, profile=str(folder / "retrain.yaml"), store=f"{there.store}-retrain")
        there.apply(*webhook(there))
        yield there


@pytest.fixture(scope="module")
def store(place: Cluster) -> Store:
    return open_store(place.store)


@pytest.fixture(scope="module")
def bucket(place: Cluster) -> S3Store:
    return S3Store(f"{place.store}-raw")


@pytest.fixture(scope="module")
def scenes(place: Cluster) -> Scenes:
    return Scenes(place)


def values(place: Cluster, bucket: S3Store, device_hours: str) -> dict[str, Any]:
    profile = profiles.read(place.profile)
    amounts = {"memory": "2Gi", "ephemeral-storage": "1Gi"}
    arguments = ARGUMENTS | {"captions": f"{bucket.uri}/captions", "device_hours": device_hours}
    return {
        "profile": "retrain",
        "store": {"uri": place.store},
        "queue": {"name": "mm1", "clusterQueue": place.namespace},
        "schedules": {
            "retrain": {
                "enabled": True,
                "suspend": True,
                "schedules": ["* * * * *"],
                "arguments": arguments,
                "successfulJobsHistoryLimit": 9,
            }
        },
        "serving": {
            "enabled": True,
            "rollout": {"enabled": True},
            "requireSignature": False,
            "image": profile.images["trainer"],
            "resources": {"requests": amounts | {"cpu": "100m"}, "limits": amounts | {"cpu": "2"}},
            "scratch": "1Gi",
            "environment": profile.environment,
            "volumes": [{"claim": "deps", "mountPath": "/opt/deps"}],
            "probe": {"periodSeconds": 5},
        },
    }


@pytest.fixture(scope="module")
def release(place: Cluster, bucket: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """The chart with a schedule, a server without a model, and a budget that is used up at once."""
    chart = small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")
    place.mm1("compile", "--engine", "template", "--profile", place.profile, "--to", str(chart / "files" / "retrain"))
    helm = Helm("helm", chart, place.environment)
    with installed(place, helm, values(place, bucket, A_MOMENT)):
        yield helm


def requests(place: Cluster) -> list[tuple[float, float, str]]:
    """Time (s since 1970), duration (s) and outcome of each request of the client."""
    lines = [line.split(" ", 2) for line in place.kubectl("logs", "client").splitlines()]
    return [(float(started), float(seconds), outcome) for started, seconds, outcome in lines]


@pytest.fixture(scope="module")
def client(place: Cluster, scenes: Scenes, store: Store) -> Iterator[None]:
    """A client in a pod, from the first promotion to the last scene."""
    place.apply(client_pod(place, "what is it ?", picture(3)))
    place.wait("the client's first answer", lambda: " ok " in place.kubectl("logs", "client", check=False), 120)
    yield
    if file := os.environ.get("MM1_CLUSTER_RECORD"):
        changes = [change.model_dump(mode="json") for change in serving.history(store, "mm1")]
        record = {"requests": requests(place), "events": scenes.events, "changes": changes}
        Path(file).write_text(json.dumps(record))
    place.kubectl("delete", "pod", "client", "--grace-period=1")


def outputs(store: Store, run: str) -> dict[str, dict[str, Any]]:
    """The outputs of each task of a run."""
    return {task: record.outputs for task, record in read_run(store, run).own.items()}


def score(tasks: dict[str, dict[str, Any]]) -> float:
    """The score of the captions of a run's model."""
    report = load(tasks["evaluate"]["manifest"], EvalReport)
    return next(each.value for each in report.scores if (each.task, each.metric) == ("captions", "content_f1"))


def served(place: Cluster) -> str:
    template = place.get("deployment", "mm1-serve")["spec"]["template"]
    return str(template["metadata"].get("annotations", {}).get("mm1.dev/model", ""))


# -- in this order --------------------------------------------------------------------------------------------------


def test_a_budget_that_is_used_up_ends_the_first_training_with_a_checkpoint(place, release, scenes, store, bucket):
    captions_arrive(bucket, 0, PAIRS)
    run = scenes.fire()
    assert scenes.ended(run) == "Failed"
    ending = read_run(store, run).own["pretrain"].ending
    assert ending.outcome is Outcome.BUDGET and "checkpoint saved" in ending.message
    assert "budget of 0.002 device hours is used up" in scenes.messages()[run]["failures"]["pretrain"]
    assert not served(place)


def test_the_next_firing_continues_it_and_serves_the_first_model(place, release, scenes, store, bucket):
    release.install("mm1", place.namespace, values(place, bucket, "100"))
    [first] = scenes.runs()
    run = scenes.fire()
    assert scenes.ended(run) == "Succeeded"
    tasks = outputs(store, run)
    assert f"continues the retraining of run {first['metadata']['name']}" in tasks["decide"]["reason"]
    metrics = BlobRef(**store.read_json(f"runs/{run}/pretrain.json")["artifacts"]["metrics.json"])
    assert json.loads(store.get_bytes(metrics))["resumed_from"] > 0
    assert tasks["rollout"]["promoted"] and served(place) == tasks["deploy"]["manifest"]


def test_new_data_lead_to_a_better_model_without_a_failed_request(place, release, scenes, store, bucket, client):
    before, [*_, last] = served(place), scenes.runs()
    captions_arrive(bucket, 1, PAIRS)
    scenes.happened("new captions arrive")
    known = scenes.runs()
    scenes.suspend(False)
    run = scenes.next_run(known)
    assert scenes.ended(run) == "Succeeded"
    scenes.next_run(scenes.runs())  # caught up for the starts that were missed while this one ran
    scenes.suspend(True)
    tasks = outputs(store, run)
    assert tasks["decide"]["decision"] == "retrain" and "reached: min_share=0.05" in tasks["decide"]["reason"]
    assert score(tasks) > score(outputs(store, last["metadata"]["name"]))
    assert tasks["rollout"]["promoted"] and served(place) == tasks["deploy"]["manifest"] != before
    counts = Counter(outcome for _, _, outcome in requests(place))
    assert set(counts) == {"ok " + split_uri(model)[1] for model in (before, served(place))}, counts
    print(f"{sum(counts.values())} requests, none failed: {counts}")


def test_nothing_new_waits_and_says_so(place, release, scenes, store, client):
    run = scenes.runs()[-1]["metadata"]["name"]
    model = served(place)
    assert scenes.ended(run) == "Succeeded"
    tasks = outputs(store, run)
    assert set(tasks) == {"ingest", "decide", "report"} and tasks["decide"]["decision"] == "wait"
    message = scenes.messages()[run]
    assert (message["status"], message["decision"]) == ("Succeeded", "wait") and message["promoted"] is None
    assert message["reason"] == tasks["decide"]["reason"] and "nothing new: 0 new samples" in message["reason"]
    assert f"{run}: Succeeded\ndecide: wait: nothing new" in message["text"] and message["link"].endswith(f"/{run}")
    assert served(place) == model


def test_worse_data_are_trained_on_and_refused_and_a_missed_start_is_caught_up_once(
    place, release, scenes, store, bucket, client
):
    model, known = served(place), scenes.runs()
    for seed in (0, 1):  # the same files again, from an export that went wrong by a row
        captions_arrive(bucket, seed, PAIRS, shuffled=True)
    scenes.happened("shuffled captions arrive")

    def a_start_is_missed() -> None:
        scenes.suspend(False)
        time.sleep(61 - time.time() % 60)

    without_controller(place, a_start_is_missed)
    run = scenes.next_run(known)
    scenes.suspend(True)
    assert scenes.ended(run) == "Succeeded"
    assert len(scenes.runs()) == len(known) + 1, "several starts were missed, and one is caught up"
    tasks = outputs(store, run)
    assert tasks["decide"]["decision"] == "retrain" and tasks["gate"]["decision"] == "fail"
    assert score(tasks) < score(outputs(store, known[-2]["metadata"]["name"]))
    assert served(place) == model and not tasks["rollout"]["promoted"]
    last = serving.history(store, "mm1")[-1]
    assert last.action == "refused" and last.by == f"run {run}"
    message = scenes.messages()[run]
    assert message["promoted"] is False and "\ngate: rule " in message["text"]


def canary_endpoints(place: Cluster) -> list[str]:
    """Pods of the canary that get requests of the Service."""
    slices = place.items("endpointslices", "kubernetes.io/service-name=mm1-serve")
    found = [end for one in slices for end in one.get("endpoints") or [] if end["conditions"].get("ready")]
    return [name for end in found if (name := end["targetRef"]["name"]).startswith("mm1-serve-canary")]


def test_a_model_that_fails_its_image_question_is_taken_back_within_a_minute(place, release, scenes, store, client):
    model = served(place)
    good = load(model, Deployment)
    wrong = good.model_copy(update={"sample": {**good.sample, "answer": "never", "expected": "never"}, "reason": "wrong"})
    address = publish(store, wrong)
    settings = [word for pair in ("canary_seconds=10", "ready_seconds=300") for word in ("-p", pair)]
    place.mm1("rollout", "promote", address, "-n", place.namespace, "-p", f"store={place.store}", *settings)
    place.wait("the canary to get requests", lambda: canary_endpoints(place), 300)
    started = time.time()
    place.wait("the Service without the canary", lambda: not canary_endpoints(place), 60)
    seconds = time.time() - started
    scenes.happened("canary deleted")
    place.wait("the record", lambda: serving.history(store, "mm1")[-1].deployment == split_uri(address)[1], 60)
    last = serving.history(store, "mm1")[-1]
    assert seconds < 60 and last.action == "refused" and "expected 'never'" in last.reason
    assert served(place) == model
    print(f"taken back within {seconds:.0f} s of the canary's first request")


def test_no_request_failed_and_no_two_runs_overlapped(place, release, scenes, store, client):
    counts = Counter(outcome for _, _, outcome in requests(place))
    assert not [outcome for outcome in counts if not outcome.startswith("ok ")], counts
    assert len(scenes.runs()) == 5 and scenes.overlaps() == []
    print(f"{sum(counts.values())} requests: {counts}")
