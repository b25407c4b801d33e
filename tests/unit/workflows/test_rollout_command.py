"""``mm1 rollout`` on one machine and on a cluster, and what ``mm1 serve`` serves after it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.config import kube_config

from mm1.lineage import serving
from mm1.manifests import Deployment, publish, split_uri
from mm1.store import credentials
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows import cli
from mm1_workflows.cli.commands import serve
from tests.support.kube_api import KubeApi, kube_api
from tests.support.serving_controller import Controller, deployment
from tests.support.stored_runs import raw, record

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return open_store("runs/store")


def deployed(store: Store, run: str, day: int = 1) -> str:
    """Record a run that deployed a model; the address of its Deployment."""
    manifest = Deployment(deployed=True, reason=f"passed in {run}")
    address = publish(store, manifest)
    outputs = {"deployed": True, "manifest": address}
    record(store, run, "deploy", manifest, started=f"2026-01-0{day}T00:00:00+00:00", outputs=outputs)
    return address


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_a_promotion_decides_what_is_served_on_this_machine(store, capsys, caplog):
    first, second, _ = (deployed(store, run, day) for day, run in ((1, "a"), (2, "b"), (3, "c")))
    assert cli.main(["rollout", "status"]) == 0
    assert said(capsys) == "record of mm1: nothing has been promoted yet"
    assert serve.promoted(store) == ""
    assert cli.main(["rollout", "promote", "a"]) == 0
    digest = split_uri(first)[1]
    assert re.search(rf"mm1: {digest[:12]}, promoted .* UTC by user .* \(by hand\); `mm1 serve` serves it", said(capsys))
    with caplog.at_level("INFO"):
        assert serve.promoted(store) == first
    assert f"serving {digest[:12]}, promoted by user" in caplog.text
    assert cli.main(["rollout", "promote", second[:-5][-64:-52]]) == 0 and serve.promoted(store) == second
    assert cli.main(["rollout", "rollback"]) == 0 and serve.promoted(store) == first
    assert cli.main(["rollout", "rollback", "--to", second]) == 0 and serve.promoted(store) == second
    capsys.readouterr()
    assert cli.main(["rollout", "history"]) == 0
    text = capsys.readouterr().out
    assert [line.split("  ")[1].strip() for line in text.splitlines()[1:] if line.strip() and "─" not in line] == [
        "rolled back",
        "rolled back",
        "promoted",
        "promoted",
    ], text
    assert cli.main(["rollout", "history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["deployment"] == split_uri(second)[1]
    assert cli.main(["rollout", "status", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["record"]["action"] == "rolled back" and set(tree) == {"record", "previous"}


def test_what_cannot_be_served_is_refused(store, capsys):
    refused = publish(store, Deployment(deployed=False, reason="the gate's decision is fail"))
    assert cli.main(["rollout", "promote", refused]) == 80
    assert "has no model: the gate's decision is fail; name one that was deployed" in said(capsys)
    record(store, "data", "ingest", raw(store, "data"))
    assert cli.main(["rollout", "promote", "data"]) == 80
    assert "expected a Deployment, the output of deploy, got RawData" in said(capsys)
    assert cli.main(["rollout", "rollback"]) == 80
    assert "no model was promoted before the current one" in said(capsys)
    assert cli.main(["rollout", "promote", "s3://other/manifests/" + "0" * 64 + ".json"]) == 80
    assert "add --store s3://other" in said(capsys)
    assert cli.main(["rollout", "promote", "data", "--watch"]) == 80
    assert "add -n NAMESPACE" in said(capsys)
    assert cli.main(["rollout", "status", "--target", "Mm1"]) == 80
    assert serving.targets(store) == []


# -- on a cluster ---------------------------------------------------------------------------------------------------

STORE = "s3://bucket/store"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    with kube_api() as server:
        path = str(server.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KUBECONFIG", path)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", path)  # the client reads the variable once

        template = yaml.safe_load((ROOT / "charts/mm1/files/default/rollout.yaml").read_text())
        for parameter in template["spec"]["arguments"]["parameters"]:
            if parameter["name"] == "store":
                parameter["value"] = STORE
        server.put("workflowtemplates", template)
        yield server


def test_on_a_cluster_the_charts_workflow_is_submitted(store, api, capsys):
    digest = "d" * 64
    assert cli.main(["rollout", "promote", digest, "-n", "team", "-p", "canary_seconds=5"]) == 0
    assert "mm1-rollout-x7k2p submitted, namespace team" in said(capsys)
    [workflow] = api.of("workflows")
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "mm1-rollout"}
    given = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
    assert given == {
        "deployment": f"{STORE}/manifests/{digest}.json",
        "action": "promote",
        "target": "mm1",
        "deployment_name": "mm1-serve",
        "canary_seconds": "5",
    }
    del api.objects["workflows", "mm1-rollout-x7k2p"]
    assert cli.main(["rollout", "rollback", "-n", "team"]) == 0
    [workflow] = api.of("workflows")
    given = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
    assert given["deployment"] == "" and given["action"] == "rollback"
    assert cli.main(["rollout", "promote", "a-run", "-n", "team"]) == 80
    assert "a-run: expected the address of a Deployment, or its whole digest" in said(capsys)
    assert cli.main(["rollout", "promote", digest, "-n", "team", "-p", "canary_second=5"]) == 80
    assert "canary_seconds" in said(capsys)


def test_the_cluster_is_compared_with_the_record(store, api, capsys):
    first, second = deployed(store, "a"), deployed(store, "b", 2)
    cli.main(["rollout", "promote", "a"])
    api.put("deployments", deployment(first, replicas=2))
    Controller(api).reconcile()
    api.on_request = lambda _: None
    capsys.readouterr()
    here = ["-n", "team", "--store", str(Path(store.uri.removeprefix("file://")))]
    assert cli.main(["rollout", "status", *here]) == 0
    text = said(capsys)
    assert f"mm1-serve: {split_uri(first)[1][:12]}, 2 of 2 pods ready" in text and "another model" not in text
    cli.main(["rollout", "promote", "b"])
    canary = deployment(second)
    canary["metadata"] |= {"name": "mm1-serve-canary", "annotations": {"mm1.dev/by": "run weekly"}}
    api.put("deployments", canary)
    capsys.readouterr()
    assert cli.main(["rollout", "status", *here]) == 0
    text = said(capsys)
    assert "the cluster serves another model than the record says" in text
    assert f"canary mm1-serve-canary: {split_uri(second)[1][:12]}, 0 of 1 pods ready, by run weekly" in text
    api.objects["deployments", "mm1-serve"]["metadata"]["annotations"] = {
        "mm1.dev/rollout": json.dumps({"by": "run weekly", "phase": "promoting", "model": second})
    }
    assert cli.main(["rollout", "status", *here, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)["cluster"]
    assert tree["served"]["ready"] == 2 and tree["canary"]["by"] == "run weekly" and tree["journal"]["phase"] == "promoting"
    assert cli.main(["rollout", "status", *here, "--deployment", "other"]) == 80
    assert "has no Deployment and no InferenceService 'other'" in said(capsys)


def test_a_record_in_a_bucket_without_credentials_does_not_hide_the_cluster(store, api, capsys, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(credentials, "METADATA_RETRIES", 0)
    api.put("deployments", deployment())
    assert cli.main(["rollout", "status", "-n", "team"]) == 0
    text = said(capsys)
    assert "record of mm1: " in text and "mm1-serve: no model yet, 0 of 1 pods ready" in text
