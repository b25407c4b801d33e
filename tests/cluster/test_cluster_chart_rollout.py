"""What the chart renders for rollouts, routes and autoscaling, by both versions of Helm, and whom a rollout may reach."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.test_cluster_chart import MM1, MODEL, NEIGHBOUR, SERVER, SERVING, STEP
from tests.support.helm import BINARIES, Helm, HelmError, named, small_chart_at
from tests.support.network import End, may_connect

ROLLOUT = {"enabled": True, "rollout": {"enabled": True}, "requireSignature": False, "image": "registry.example/trainer:1"}
GATEWAY = {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["mm1.example.org"]}


@pytest.fixture(scope="module")
def small_chart(tmp_path_factory):
    return small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")


@pytest.fixture(params=BINARIES)
def helm(request, cluster, small_chart) -> Helm:
    return Helm(request.param, small_chart, cluster.environment)


def rendered(helm: Helm, **serving: Any) -> list[dict[str, Any]]:
    return helm.objects({"profile": "small", "serving": ROLLOUT | serving})


def test_the_model_of_a_pod_is_an_annotation_that_the_chart_does_not_render(helm):
    template = named(rendered(helm), "Deployment", "mm1-serve")["spec"]["template"]
    assert "annotations" not in template["metadata"] and template["metadata"]["labels"]["mm1.dev/track"] == "stable"
    [container] = template["spec"]["containers"]
    assert "--model=$(MM1_MODEL)" in container["args"]
    [variable] = [each for each in container["env"] if each["name"] == "MM1_MODEL"]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.annotations['mm1.dev/model']"}}
    selector = named(rendered(helm), "Deployment", "mm1-serve")["spec"]["selector"]["matchLabels"]
    assert "mm1.dev/track" not in selector, "a selector never changes, and rollouts can be switched on later"
    service = named(rendered(helm), "Service", "mm1-serve")["spec"]["selector"]
    assert service == selector, "also the canary's pods"
    annotated = named(rendered(helm, podAnnotations={"team": "vision"}), "Deployment", "mm1-serve")["spec"]["template"]
    assert annotated["metadata"]["annotations"] == {"team": "vision"}


def test_without_rollouts_nothing_of_them_is_rendered(helm):
    objects = helm.objects({"profile": "small", "serving": SERVING | {"image": "registry.example/trainer:1"}})
    template = named(objects, "Deployment", "mm1-serve")["spec"]["template"]
    assert "mm1.dev/track" not in template["metadata"]["labels"]
    assert f"--model={MODEL}" in template["spec"]["containers"][0]["args"]
    role = named(objects, "Role", "mm1-rollout")["rules"]
    assert [rule["resources"] for rule in role] == [["workflowtaskresults"]]
    assert not [each for each in objects if each["kind"] in ("HTTPRoute", "HorizontalPodAutoscaler")]


def test_kserve_gets_the_same_server_and_the_rollout_only_its_permissions(helm):
    [server] = named(rendered(helm), "Deployment", "mm1-serve")["spec"]["template"]["spec"]["containers"]
    objects = rendered(helm, kserve={"enabled": True})
    kinds = {each["kind"] for each in objects if each["metadata"]["name"] == "mm1-serve"}
    assert not kinds & {"Deployment", "Service"} and kinds >= {"InferenceService", "ServingRuntime"}
    [container] = named(objects, "ServingRuntime", "mm1-serve")["spec"]["containers"]
    assert container == server | {"name": "kserve-container"}
    predictor = named(objects, "InferenceService", "mm1-serve")["spec"]["predictor"]
    assert "annotations" not in predictor and predictor["labels"]["mm1.dev/track"] == "stable"
    assert "data" not in named(objects, "ConfigMap", "mm1-serve-rollout")
    rules = named(objects, "Role", "mm1-rollout")["rules"]
    assert [rule["verbs"] for rule in rules if rule["resources"] == ["deployments"]] == [["get", "list", "watch"]]
    assert [rule["verbs"] for rule in rules if rule["resources"] == ["inferenceservices"]][1] == ["patch"]


def test_a_route_has_weights_that_the_rollout_may_change(helm):
    objects = rendered(helm, gateway=GATEWAY)
    route = named(objects, "HTTPRoute", "mm1-serve")
    assert route["spec"]["parentRefs"] == GATEWAY["parentRefs"] and route["spec"]["hostnames"] == GATEWAY["hostnames"]
    [rule] = route["spec"]["rules"]
    assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
        ("mm1-serve-stable", 100),
        ("mm1-serve-canary", 0),
    ]
    for track in ("stable", "canary"):
        service = named(objects, "Service", f"mm1-serve-{track}")
        assert service["spec"]["selector"]["mm1.dev/track"] == track
        assert service["metadata"]["labels"]["app.kubernetes.io/component"] != "serving", "the ServiceMonitor selects it"
    assert named(objects, "Deployment", "mm1-serve")["metadata"]["annotations"] == {"mm1.dev/route": "mm1-serve"}
    rules = {rule["resources"][0]: rule for rule in named(objects, "Role", "mm1-rollout")["rules"]}
    assert rules["httproutes"]["verbs"] == ["get", "patch"] and rules["httproutes"]["resourceNames"] == ["mm1-serve"]
    plain = rendered(helm, gateway=GATEWAY, rollout={"enabled": False}, model=MODEL)
    [rule] = named(plain, "HTTPRoute", "mm1-serve")["spec"]["rules"]
    assert [each["name"] for each in rule["backendRefs"]] == ["mm1-serve"]
    assert not [each for each in plain if each["kind"] == "Service" and each["metadata"]["name"] != "mm1-serve"]


def test_a_scheduled_retraining_rolls_out_to_the_releases_server(helm):
    def arguments(**values: Any) -> dict[str, str]:
        values = {"profile": "default", "schedules": {"retrain": {"enabled": True, **values}}, "serving": ROLLOUT}
        spec = named(helm.objects(values), "CronWorkflow", "mm1-retrain")["spec"]["workflowSpec"]
        return {each["name"]: each["value"] for each in spec.get("arguments", {}).get("parameters", [])}

    assert arguments()["deployment_name"] == "mm1-serve"
    assert arguments(arguments={"deployment_name": "other"})["deployment_name"] == "other"
    assert "deployment_name" not in arguments(template="mm1-ingest")


def test_an_autoscaler_sets_the_number_of_pods(helm):
    objects = rendered(helm, autoscaling={"enabled": True, "minReplicas": 2, "maxReplicas": 9, "waitingPerPod": 5})
    spec = named(objects, "HorizontalPodAutoscaler", "mm1-serve")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    [metric] = spec["metrics"]
    assert metric["pods"] == {
        "metric": {"name": "mm1_answers_waiting"},
        "target": {"type": "AverageValue", "averageValue": "5"},
    }
    assert "replicas" not in named(objects, "Deployment", "mm1-serve")["spec"]
    assert named(rendered(helm), "Deployment", "mm1-serve")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        ({"model": MODEL}, r"serving.model: expected an empty value with serving.rollout.enabled.*mm1 rollout promote"),
        ({"gateway": {"enabled": True}}, r"parentRefs"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 5}},
            r"maxReplicas: expected at least minReplicas, which is 5, got 4",
        ),
    ],
)
def test_wrong_values_are_refused_with_the_remedy(helm, serving, message):
    with pytest.raises(HelmError, match=f"(?s){message}"):
        rendered(helm, **serving)


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        (End(MM1 | {"mm1.dev/step": "rollout", "mm1.dev/pool": "cpu"}), SERVER, 8000, True),
        (End(MM1 | {"mm1.dev/step": "rollout", "mm1.dev/pool": "cpu"}), SERVER, 22, False),
        (End(MM1 | {"mm1.dev/step": "rollout", "mm1.dev/pool": "cpu"}), End(address="10.0.0.1"), 6443, True),
        (STEP, SERVER, 8000, False),
        (NEIGHBOUR, SERVER, 8000, False),
    ],
)
def test_whom_a_rollout_may_reach(helm, source, target, port, allowed):
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    values = {"profile": "small", "serving": ROLLOUT, "networkPolicy": {"serving": {"from": peers}}}
    policies = [each for each in helm.objects(values) if each["kind"] == "NetworkPolicy"]
    assert may_connect(policies, source, target, port) is allowed
