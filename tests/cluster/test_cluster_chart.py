"""The chart, by both versions of Helm: what it renders, what the cluster makes of it, and that it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1_components.ranks.launcher import Launcher
from tests.support.helm import BINARIES, Helm, HelmError, by_source, named, small_chart_at
from tests.support.network import End, may_connect

MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
SERVING = {"enabled": True, "model": MODEL, "verifyKey": {"configMap": "mm1-verify-key"}}


@pytest.fixture(scope="session")
def small_chart(tmp_path_factory) -> Path:
    """The chart with one more profile, whose only workflow template is small."""
    return small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")


@pytest.fixture(params=BINARIES)
def helm(request, cluster, small_chart) -> Helm:
    """Both versions of Helm on the chart with the small profile."""
    return Helm(request.param, small_chart, cluster.environment)


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
    "serving": SERVING | {"image": "registry.example/trainer@sha256:" + "1" * 64},
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


def test_both_versions_of_helm_render_the_same(cluster, small_chart):
    first, second = (Helm(name, small_chart, cluster.environment).objects(EVERYTHING) for name in BINARIES)

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


ROLES = ("step", "supervisor", "rank", "serve", "rollout")
ROLE_ARN, GCP_ACCOUNT = "eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account"


def test_accounts_carry_pull_secrets_annotations_and_labels(helm):
    accounts = {
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
        "annotations": {ROLE_ARN: "arn:aws:iam::111122223333:role/mm1"},
        "labels": {"team": "vision"},
        "rank": {
            "annotations": {ROLE_ARN: "arn:aws:iam::111122223333:role/ranks", GCP_ACCOUNT: "x@y"},
            "labels": {"gang": "yes"},
        },
    }
    objects = helm.objects({"profile": "small", "accounts": accounts})
    made = {role: named(objects, "ServiceAccount", f"mm1-{role}") for role in ROLES}
    for role, account in made.items():
        assert account["imagePullSecrets"] == accounts["imagePullSecrets"]
        assert account["metadata"]["labels"]["team"] == "vision"
        assert account["metadata"]["labels"]["app.kubernetes.io/component"] == role
    annotations = {role: account["metadata"]["annotations"] for role, account in made.items()}
    assert annotations.pop("rank") == accounts["rank"]["annotations"]
    assert all(found == accounts["annotations"] for found in annotations.values())
    assert made["rank"]["metadata"]["labels"]["gang"] == "yes" and "gang" not in made["step"]["metadata"]["labels"]
    plain = named(helm.objects({"profile": "small"}), "ServiceAccount", "mm1-step")
    assert "imagePullSecrets" not in plain and "annotations" not in plain["metadata"]


def test_every_pod_runs_under_an_account_of_the_chart(helm):
    objects = helm.objects({"serving": SERVING})
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    used = set()
    for spec in (one["spec"] for one in objects if one["kind"] == "WorkflowTemplate"):
        used.add(spec["serviceAccountName"])
        assert "imagePullSecrets" not in spec, "Kubernetes takes those of the account only for pods without any"
        for body in (body for body in spec["templates"] if "container" in body):
            used.add(body.get("serviceAccountName", spec["serviceAccountName"]))
            words = [word.partition("=")[2] for word in body["container"]["args"] if word.startswith("--launcher=")]
            used.update(Launcher.model_validate_json(text).account for text in words)
    [server] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    assert used | {server["serviceAccountName"]} == accounts == {f"mm1-{role}" for role in ROLES}


@pytest.mark.parametrize("secret", ["mm1-store", ""])
def test_reports_are_kept_with_keys_or_with_an_identity(helm, secret):
    settings = {"enabled": True, "bucket": "artifacts", "region": "eu-central-1", "secret": secret}
    made = named(helm.objects({"profile": "small", "artifactRepository": settings}), "ConfigMap", "artifact-repositories")
    repository = yaml.safe_load(made["data"]["mm1"])["s3"]
    assert repository["bucket"] == "artifacts" and repository["region"] == "eu-central-1"
    if secret:
        assert repository["accessKeySecret"] == {"name": secret, "key": "AWS_ACCESS_KEY_ID"}
        assert repository["secretKeySecret"]["name"] == secret and "useSDKCreds" not in repository
    else:
        assert repository["useSDKCreds"] is True and not {"accessKeySecret", "secretKeySecret"} & set(repository)


@pytest.mark.parametrize(("own", "expected"), [("", "mm1-store"), ("mm1-read", "mm1-read")])
def test_a_server_may_have_credentials_of_its_own(helm, own, expected):
    objects = helm.objects({"serving": SERVING | {"store": {"secret": own}}})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": expected}}]


def test_a_server_with_an_identity_reads_no_secret(helm):
    serving = SERVING | {"environment": {"AWS_REGION": "eu-central-1"}, "image": EVERYTHING["serving"]["image"]}
    objects = helm.objects({"profile": "small", "store": {"secret": ""}, "serving": serving})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    [container] = pod["containers"]
    assert "envFrom" not in container and {"name": "AWS_REGION", "value": "eu-central-1"} in container["env"]
    assert pod["serviceAccountName"] == "mm1-serve" and pod["automountServiceAccountToken"] is False


def test_the_servers_options_secrets_and_time_to_drain_are_those_of_the_values(helm):
    options = {"apiKey": {"secret": "key"}, "corsOrigins": ["https://a.org", "https://b.org"], "imageHosts": ["*.c.org"]}
    objects = helm.objects({"serving": SERVING | options | {"maxTokens": 99, "dtype": "bfloat16", "drainSeconds": 60}})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    [container] = pod["containers"]
    expected = {"--max-tokens=99", "--max-images=16", "--max-running=32", "--max-waiting=256", "--dtype=bfloat16", "--drain=60"}
    expected |= {"--cors-origins=https://a.org,https://b.org", "--image-hosts=*.c.org", "--require-signature"}
    assert expected | {"--verify-key=/etc/mm1/verify/mm1.pub"} <= set(container["args"])
    variables = {one["name"]: one for one in container["env"]}
    assert variables["MM1_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "key", "key": "api-key"}
    assert variables["GOMP_SPINCOUNT"]["value"] == "5000"
    assert pod["terminationGracePeriodSeconds"] == 75
    assert {"name": "verify-key", "configMap": {"name": "mm1-verify-key"}} in pod["volumes"]
    assert {"name": "verify-key", "mountPath": "/etc/mm1/verify", "readOnly": True} in container["volumeMounts"]


def test_values_of_the_server_stay_the_text_that_they_are(helm):
    """YAML takes 'a: b' for a map, ' #' for a comment and 123 for a number; Helm takes 1000000 for a float."""
    environment = {"LIMIT": 1000000, "FLAG": True, "TEXT": "x: y #z", "GOMP_SPINCOUNT": "0", "HOME": "/data"}
    serving = {"modelName": 'a: b #"c"', "apiKey": {"secret": "123"}, "environment": environment, "priorityClassName": "yes"}
    volumes = [{"claim": "456", "mountPath": "/x: y"}]
    objects = helm.objects({"serving": SERVING | serving | {"volumes": volumes}})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    [container] = pod["containers"]
    assert '--name=a: b #"c"' in container["args"] and pod["priorityClassName"] == "yes"
    values = [(one["name"], one.get("value")) for one in container["env"] if one["name"] != "OMP_NUM_THREADS"]
    expected = {
        "LIMIT": "1000000",
        "FLAG": "true",
        "TEXT": "x: y #z",
        "GOMP_SPINCOUNT": "0",
        "HOME": "/data",
        "MM1_API_KEY": None,
    }
    assert sorted(values) == sorted(expected.items()), "each variable once"
    [key] = [one for one in container["env"] if one["name"] == "MM1_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"]["name"] == "123"
    assert container["volumeMounts"][-1]["mountPath"] == "/x: y"
    assert pod["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "456"


def test_an_open_server_of_unsigned_models_mounts_no_key(helm):
    objects = helm.objects({"serving": {"enabled": True, "model": MODEL, "requireSignature": False}})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    text = yaml.safe_dump(pod)
    assert "verify" not in text and "require-signature" not in text and "MM1_API_KEY" not in text
    assert not [argument for argument in pod["containers"][0]["args"] if argument.startswith("--max-tokens")]


def test_the_served_image_is_the_one_that_deployed(helm):
    objects = helm.objects({"serving": SERVING})
    [pod] = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    deploy = yaml.safe_load((helm.chart / "files" / "default" / "deploy.yaml").read_text())
    images = {one["container"]["image"] for one in deploy["spec"]["templates"] if one["name"] == "step-deploy"}
    assert {pod["containers"][0]["image"]} == images


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"profile": "nowhere"}, r'profile "nowhere": the chart has no .* only for: default, small, smoke.* mm1 compile'),
        ({"schedules": schedule(template="mm1-ful")}, r'schedules.retrain.template: profile default has no .*"mm1-ful", only:'),
        ({"schedules": schedule(schedules=[])}, r"schedules.retrain.schedules: expected at least one"),
        (
            {"profile": "small", "schedules": schedule(template="mm1-small")},
            r'schedules.retrain.arguments: mm1-small requires a value for "needed"',
        ),
        (
            {"profile": "small", "schedules": schedule(template="mm1-small", arguments={"needed": "x", "numbr": 1})},
            r'no parameter "numbr", only: number, needed',
        ),
        ({"serving": {"enabled": True}}, r"serving.model: set the manifest"),
        (
            {"profile": "small", "serving": {"enabled": True, "model": MODEL, "requireSignature": False}},
            r"serving.image: required, because",
        ),
        ({"serving": {"enabled": True, "model": MODEL}}, r"serving.verifyKey: required by serving.requireSignature"),
        ({"serving": SERVING | {"verifyKey": {"secret": "a", "configMap": "b"}}}, r"serving.verifyKey: .*not both"),
        ({"artifactRepository": {"enabled": True}}, r"artifactRepository.bucket: required"),
        ({"servin": {"enabled": True}}, r"servin"),
        ({"serving": {"replicas": "two"}}, r"replicas.*(got string, want integer|integer)"),
    ],
)
def test_wrong_values_are_refused_with_the_remedy(helm, values, message):
    with pytest.raises(HelmError, match=f"(?s){message}"):
        helm.text(values)


# -- who may reach whom (worked out: not every network enforces policies) -----------------------------------------------

MM1 = {"app.kubernetes.io/part-of": "mm1"}
STEP = End(MM1 | {"mm1.dev/step": "ingest", "mm1.dev/pool": "cpu"})
RANK = End(MM1 | {"mm1.dev/role": "rank", "mm1.dev/run": "a"})
OTHER_RANK = End(MM1 | {"mm1.dev/role": "rank", "mm1.dev/run": "b"})
SERVER = End(
    MM1
    | {
        "app.kubernetes.io/name": "mm1",
        "app.kubernetes.io/instance": "mm1",
        "app.kubernetes.io/component": "serving",
    }
)
NEIGHBOUR, STRANGER = End({"app": "web"}), End({"app": "web"}, namespace="elsewhere")
DNS = End({"k8s-app": "kube-dns"}, namespace="kube-system")
API, BUCKET, METADATA = End(address="10.0.0.1"), End(address="52.1.2.3"), End(address="169.254.169.254")


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        (STEP, DNS, 53, True),
        (RANK, DNS, 53, True),
        (SERVER, DNS, 53, True),
        (STEP, BUCKET, 443, True),
        (RANK, BUCKET, 443, True),
        (SERVER, BUCKET, 443, True),
        (STEP, BUCKET, 80, False),
        (RANK, METADATA, 443, False),
        (STEP, API, 6443, True),
        (RANK, API, 6443, False),
        (SERVER, API, 6443, False),
        (RANK, OTHER_RANK, 29500, True),
        (STEP, RANK, 29500, False),
        (RANK, STEP, 22, False),
        (RANK, SERVER, 8000, False),
        (NEIGHBOUR, RANK, 29500, False),
        (STRANGER, RANK, 29500, False),
        (NEIGHBOUR, SERVER, 8000, True),
        (NEIGHBOUR, SERVER, 22, False),
        (STRANGER, SERVER, 8000, False),
    ],
)
def test_who_may_reach_whom(policies, source, target, port, allowed):
    assert may_connect(policies, source, target, port) is allowed


@pytest.fixture(scope="session")
def policies(cluster, small_chart) -> list[dict[str, Any]]:
    """The network policies with everything switched on, and default peers."""
    objects = Helm("helm", small_chart, cluster.environment).objects(EVERYTHING)
    return [one for one in objects if one["kind"] == "NetworkPolicy"]
