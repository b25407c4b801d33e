"""The chart, by both versions of Helm: what it renders, what the cluster makes of it, and that it leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import BINARIES, Helm, HelmError, by_source, named

pytestmark = pytest.mark.cluster

CHART = Path(__file__).parents[2] / "charts" / "mm1"
MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
IMAGE = "localhost/debian-python:3.11"
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
      args: ['open("/tmp/said", "w").write("{{inputs.parameters.text}}")']
      resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 500m, memory: 64Mi}}
      securityContext:
        {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsNonRoot: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: tmp, mountPath: /tmp}]
    volumes: [{name: tmp, emptyDir: {}}]
"""


@pytest.fixture(scope="session")
def small_chart(tmp_path_factory) -> Path:
    """The chart with one more profile, whose only workflow template is small."""
    chart = tmp_path_factory.mktemp("chart") / "mm1"
    shutil.copytree(CHART, chart)
    (chart / "files" / "small").mkdir(parents=True)
    (chart / "files" / "small" / "small.yaml").write_text(SMALL)
    return chart


@pytest.fixture(params=BINARIES)
def helm(request, small_chart) -> Helm:
    """Both versions of Helm on the chart with the small profile."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not on the PATH")
    return Helm(request.param, small_chart)


def schedule(**settings: Any) -> dict[str, Any]:
    return {"retrain": {"enabled": True, **settings}}


EVERYTHING = {
    "profile": "small",
    "store": {"uri": ""},
    "accounts": {"executor": {"create": True}},
    "submitters": [{"kind": "Group", "name": "engineers"}, {"kind": "ServiceAccount", "name": "robot"}],
    "schedules": schedule(template="mm1-small", arguments={"needed": "x", "number": 1000000}),
    "queue": {"clusterQueue": "all"},
    "artifactRepository": {"enabled": True, "bucket": "artifacts", "endpoint": "s3.example:9000"},
    "serving": {"enabled": True, "model": MODEL, "image": "registry.example/trainer@sha256:" + "1" * 64},
}


# -- what is rendered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["default", "small"])
def test_workflow_templates_come_out_byte_for_byte(helm, profile):
    files = sorted((helm.chart / "files" / profile).glob("*.yaml"))
    rendered = by_source(helm.text({"profile": profile}))["templates/workflowtemplates.yaml"]
    assert len(rendered) == len(files) > 0
    # Helm ends each document with one line break, whatever the file ends with; its order is by kind and name.
    assert sorted(text.rstrip("\n") for text in rendered) == sorted(path.read_text().rstrip("\n") for path in files)
    assert "{{workflow.parameters." in "".join(rendered)


def test_both_versions_of_helm_render_the_same(small_chart):
    missing = [name for name in BINARIES if not shutil.which(name)]
    if missing:
        pytest.skip(f"not on the PATH: {', '.join(missing)}")
    first, second = (Helm(name, small_chart).objects(EVERYTHING) for name in BINARIES)

    def key(one):
        return one["kind"], one["metadata"]["name"]

    assert sorted(first, key=key) == sorted(second, key=key)


def test_defaults_render_no_schedule_no_server_no_queue(helm):
    kinds = {one["kind"] for one in helm.objects()}
    assert kinds == {"WorkflowTemplate", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"}


def test_every_object_of_the_charts_own_carries_the_recommended_labels(helm):
    for one in helm.objects(EVERYTHING, namespace="there"):
        assert one["metadata"].get("namespace", "there") == "there"
        if one["kind"] != "WorkflowTemplate":
            labels = one["metadata"]["labels"]
            assert {f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "managed-by")} <= set(
                labels
            )
            assert labels["app.kubernetes.io/part-of"] == "mm1" and labels["app.kubernetes.io/instance"] == "mm1"


def test_a_schedule_gives_the_templates_parameters_as_texts(helm):
    spec = named(helm.objects(EVERYTHING), "CronWorkflow", "mm1-retrain")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["timezone"] == "Etc/UTC" and spec["suspend"] is False
    assert spec["workflowSpec"] == {
        "workflowTemplateRef": {"name": "mm1-small"},
        "arguments": {"parameters": [{"name": "needed", "value": "x"}, {"name": "number", "value": "1000000"}]},
    }


def test_history_limits_may_be_zero(helm):
    settings = schedule(template="mm1-small", arguments={"needed": "x"}, failedJobsHistoryLimit=0)
    spec = named(helm.objects({"profile": "small", "schedules": settings}), "CronWorkflow", "mm1-retrain")["spec"]
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 0)


def test_the_served_image_is_the_one_that_deployed(helm):
    objects = helm.objects({"serving": {"enabled": True, "model": MODEL}})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    deploy = yaml.safe_load((CHART / "files" / "default" / "deploy.yaml").read_text())
    images = {one["container"]["image"] for one in deploy["spec"]["templates"] if one["name"] == "step-deploy"}
    assert {pod["containers"][0]["image"]} == images


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"profile": "nowhere"}, r'profile "nowhere": the chart carries .* only for: default, small.* mm1 compile'),
        ({"schedules": schedule(template="mm1-ful")}, r'schedules.retrain.template: profile default has no .*"mm1-ful", only:'),
        ({"schedules": schedule(schedules=[])}, r"schedules.retrain.schedules: give at least one"),
        (
            {"profile": "small", "schedules": schedule(template="mm1-small")},
            r'schedules.retrain.arguments: mm1-small needs a value for "needed"',
        ),
        (
            {"profile": "small", "schedules": schedule(template="mm1-small", arguments={"needed": "x", "numbr": 1})},
            r'no parameter "numbr", only: number, needed',
        ),
        ({"serving": {"enabled": True}}, r"serving.model: name the manifest"),
        ({"profile": "small", "serving": {"enabled": True, "model": MODEL}}, r"serving.image: .* name the image"),
        ({"artifactRepository": {"enabled": True}}, r"artifactRepository.bucket: name the bucket"),
        ({"servin": {"enabled": True}}, r"servin"),
        ({"serving": {"replicas": "two"}}, r"replicas.*(got string, want integer|integer)"),
    ],
)
def test_wrong_values_are_refused_with_the_remedy(helm, values, message):
    with pytest.raises(HelmError, match=f"(?s){message}"):
        helm.text(values)
