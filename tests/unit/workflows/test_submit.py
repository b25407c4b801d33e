"""Submitting: what is printed, checked, sent and answered; small HTTP servers answer as the real ones do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.workflows.models import Workflow

from mm1.errors import ConfigurationError, Mm1Error, NetworkError
from mm1_workflows import cli
from mm1_workflows.cluster.transport.argo_server import ArgoServerTransport
from mm1_workflows.cluster.transport.base import with_key
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport

ROOT = Path(__file__).resolve().parents[3]
PRETRAIN = str(ROOT / "workflows/pretrain.py")
DOCUMENT: dict[str, Any] = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"generateName": "x-"},
    "spec": {},
}


class Cluster:
    """Keeps workflows; answers the few requests that both interfaces make."""

    def __init__(self) -> None:
        self.workflows: dict[str, Any] = {}
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        self.refuse: tuple[int, str] | None = None


@pytest.fixture
def cluster() -> Iterator[tuple[Cluster, str]]:
    state = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append(("POST", self.path, body, dict(self.headers)))
            if state.refuse:
                self.answer(state.refuse[0], {"message": state.refuse[1]})
                return
            workflow = body.get("workflow", body)
            name = workflow["metadata"].get("name") or workflow["metadata"]["generateName"] + "abc12"
            if name in state.workflows:
                self.answer(409, {"message": "already exists"})
                return
            workflow["metadata"]["name"] = name
            if "dryRun" not in self.path and not body.get("serverDryRun"):
                state.workflows[name] = workflow
            self.answer(200, workflow)

        def do_GET(self) -> None:
            self.answer(200, state.workflows[self.path.rsplit("/", 1)[-1]])

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_dry_run_on_the_client_prints_valid_argo(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, "--dry-run=client", "-p", "seed=7", "-p", "captions=s3://data/cc3m"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    workflow = Workflow.model_validate(document)
    values = {parameter.name: str(parameter.value) for parameter in workflow.spec.arguments.parameters}
    assert values["seed"] == "7" and values["captions"] == "s3://data/cc3m"
    assert {template.name for template in workflow.spec.templates} >= {"pretrain", "step-ingest", "step-pretrain"}


def test_wrong_parameters_are_refused_before_anything_is_sent(
    cluster: tuple[Cluster, str], capsys: pytest.CaptureFixture[str]
) -> None:
    state, url = cluster
    assert cli.main(["submit", PRETRAIN, "--server", url, "-p", "sed=7", "-p", "items=many"]) == 80
    said = capsys.readouterr().err
    assert "unknown parameter 'sed'; did you mean 'seed'" in said and "parameter items: expected an integer, got 'many'" in said
    assert state.requests == []


def test_without_a_cluster_there_is_one_clear_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert cli.hera(["submit", PRETRAIN]) == 80
    assert "no cluster is configured" in capsys.readouterr().err
    assert cli.hera(["submit", PRETRAIN, "--server", "http://127.0.0.1:9"]) == 84
    assert "unreachable" in capsys.readouterr().err
    assert cli.hera(["submit", PRETRAIN, "--dry-run", "maybe"]) == 80


def test_argo_server_gets_the_workflow_once_per_key(cluster: tuple[Cluster, str]) -> None:
    state, url = cluster
    transport = ArgoServerTransport(url, "secret-token", "pipelines")
    first = transport.create(with_key(DOCUMENT, "nightly-1"))
    again = transport.create(with_key(DOCUMENT, "nightly-1"))
    other = transport.create(with_key(DOCUMENT, "nightly-2"))
    assert first.created and not again.created and other.created
    assert first.name == again.name != other.name and first.namespace == "pipelines"
    method, path, body, headers = state.requests[0]
    assert (method, path) == ("POST", "/api/v1/workflows/pipelines")
    assert headers["Authorization"] == "Bearer secret-token"
    assert body["workflow"]["metadata"]["namespace"] == "pipelines"
    transport.create(DOCUMENT, dry_run=True)
    assert len(state.workflows) == 2 and state.requests[-1][2]["serverDryRun"] is True


@pytest.fixture
def kubeconfig(cluster: tuple[Cluster, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    state, url = cluster
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    return state


def test_the_kubernetes_api_gets_the_workflow_once_per_key(kubeconfig: Cluster) -> None:
    transport = KubernetesTransport()
    first = transport.create(with_key(DOCUMENT, "k"))
    again = transport.create(with_key(DOCUMENT, "k"))
    assert first.created and not again.created and first.name == again.name and first.namespace == "team"
    transport.create(DOCUMENT, dry_run=True)
    assert len(kubeconfig.workflows) == 1
    with pytest.raises(ConfigurationError, match="exists already"):
        transport.create(DOCUMENT | {"metadata": {"name": first.name}})
    with pytest.raises(ConfigurationError, match="no context 'there'; contexts: here"):
        KubernetesTransport("there")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, ConfigurationError, "expired"),
        (403, ConfigurationError, "may not create"),
        (404, ConfigurationError, "check that Argo Workflows is installed"),
        (422, ConfigurationError, "rejected as invalid"),
        (503, NetworkError, "HTTP status 503"),
    ],
)
def test_refusals_have_a_class_and_the_servers_words(
    kubeconfig: Cluster, cluster: tuple[Cluster, str], status: int, kind: type[Mm1Error], words: str
) -> None:
    kubeconfig.refuse = (status, "because of this")
    for transport in (KubernetesTransport(), ArgoServerTransport(cluster[1])):
        with pytest.raises(kind, match=words) as caught:
            transport.create(DOCUMENT)
        assert "because of this" in str(caught.value)


def test_a_key_fits_into_a_name() -> None:
    long = {**DOCUMENT, "metadata": {"generateName": "a" * 60 + "-"}}
    keyed = with_key(long, "key")
    assert len(keyed["metadata"]["name"]) <= 63 and "generateName" not in keyed["metadata"]
    assert "generateName" in long["metadata"]  # the given document is left alone
