"""The Kubeflow translation: what the SDK loads, types, placeholders, retries; losses and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.workflows import Container, Parameter, Workflow
from hera.workflows.models import ValueFrom

from mm1.errors import ConfigurationError
from mm1_workflows import cli
from mm1_workflows.argo.document import Document
from mm1_workflows.authoring import load
from mm1_workflows.engines.kubeflow import losses, read_ir, translate
from mm1_workflows.engines.kubeflow.translate import UNLIMITED_S
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_workflows import build, toy

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = sorted((ROOT / "workflows/compiled/kubeflow").glob("*.yaml"))


@pytest.fixture(scope="module")
def pipeline() -> str:
    return (ROOT / "workflows/compiled/kubeflow/deploy.yaml").read_text()


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all(text)
    return spec, platform


def translated(body: Callable[[Workflow], None], **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return documents(translate.to_yaml(build(body, **options)))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda path: path.stem)
def test_the_sdk_loads_the_committed_pipelines(file: Path) -> None:
    from google.protobuf import json_format
    from kfp import components
    from kfp.kubernetes import kubernetes_executor_config_pb2 as platform_pb

    text = file.read_text()
    loaded = components.load_component_from_text(text)
    workflow = read_workflow(load.load(str(ROOT / f"workflows/{file.stem}.py")).document)
    assert loaded.name == workflow.name
    assert set(loaded.component_spec.inputs) == set(workflow.parameters)
    spec, platform = documents(text)
    for name, parameter in workflow.parameters.items():
        assert loaded.component_spec.inputs[name].optional == (parameter.value is not None)
        shown = spec["root"]["inputDefinitions"]["parameters"][name]["description"]
        assert parameter.description and shown.startswith(parameter.description)
    for config in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        parsed = json_format.ParseDict(config, platform_pb.KubernetesExecutorConfig())
        assert [mount.mount_path for mount in parsed.empty_dir_mounts] == ["/tmp", "/dev/shm"]


def test_a_pipeline_can_be_a_step_of_another_one(pipeline: str) -> None:
    from google.protobuf import json_format
    from kfp import components, dsl

    inner = components.load_component_from_text(pipeline)

    @dsl.pipeline(name="outer")
    def outer(checkpoint: str) -> None:
        inner(checkpoint=checkpoint, items=8)

    plain = json_format.MessageToDict(outer.pipeline_spec)
    assert {"comp-mm1-deploy", "comp-gate"} <= set(plain["components"])


def test_parameters_are_typed_by_what_they_feed(pipeline: str) -> None:
    inputs = documents(pipeline)[0]["root"]["inputDefinitions"]["parameters"]
    assert (inputs["items"]["parameterType"], inputs["items"]["defaultValue"]) == ("NUMBER_INTEGER", 256)
    assert inputs["store"]["parameterType"] == "STRING" and "plain|chat" in inputs["style"]["description"]
    assert "isOptional" not in inputs["checkpoint"]

    def body(w: Workflow) -> None:
        toy("a", seconds=w.get_parameter("wait"), say=w.get_parameter("class"))

    spec, _ = translated(body, wait="0.5", **{"class": "x"})
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert (inputs["wait"]["parameterType"], inputs["wait"]["defaultValue"]) == ("NUMBER_DOUBLE", 0.5)
    assert inputs["p_class"]["defaultValue"] == "x", "a word that Python keeps for itself is no name of a parameter"
    with pytest.raises(ConfigurationError, match="wait"):
        translated(body, wait="soon", **{"class": "x"})


def test_one_argument_holds_several_references_without_nesting_them() -> None:
    """Kubeflow replaces placeholders once and in no order: a value must never hold one."""

    def body(w: Workflow) -> None:
        a, b = toy("a", say="1"), toy("b", say="2")
        c = toy("c", say=f"{a.get_parameter('text')} and {b.get_parameter('text')} of {w.get_parameter('word')}")
        [a, b] >> c

    spec, _ = translated(body, word="w")
    executor = spec["deploymentSpec"]["executors"]["exec-c"]["container"]
    inputs = "{{$.inputs.parameters['a_text']}} and {{$.inputs.parameters['b_text']}} of {{$.inputs.parameters['word']}}"
    assert f"--say={inputs}" in executor["args"]
    constants = [
        raw["runtimeValue"]["constant"]
        for task in spec["root"]["dag"]["tasks"].values()
        for name, raw in task["inputs"]["parameters"].items()
        if "runtimeValue" in raw and name != "run"
    ]
    assert constants and not [value for value in constants if "{{" in str(value)]


def test_the_run_is_named_as_in_the_cluster_and_the_status_reaches_the_exit_task(pipeline: str) -> None:
    spec, _ = documents(pipeline)
    report = spec["root"]["dag"]["tasks"]["report"]
    assert report["inputs"]["parameters"]["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_resource_name}}"
    assert report["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_the_report_understands_either_engine_s_status() -> None:
    from mm1_components.report import status_of

    given = '{"state":"COMPLETE", "pipelineJobResourceName":"mm1-deploy-x", "pipelineTaskName":"exit-handler-1", "error":{}}'
    assert status_of(given) == "Succeeded" and status_of('{"state":"FAILED"}') == "Failed"
    assert [status_of(text) for text in ("Succeeded", "", "Error", '{"state":"NEW"}')] == ["Succeeded", "", "Error", "NEW"]


def test_repetitions_end_at_once_and_are_not_bounded_by_time(pipeline: str) -> None:
    spec, platform = documents(pipeline)
    assert "activeDeadlineSeconds" not in platform["platforms"]["kubernetes"]["pipelineConfig"], "no limit by default"
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    for key, task in tasks.items():
        assert task["cachingOptions"] == {}, "Kubeflow's cache goes by names, so it is off"
        assert task["retryPolicy"]["backoffMaxDuration"] == f"{UNLIMITED_S}s", "it counts from the first start"
        assert spec["deploymentSpec"]["executors"][f"exec-{key}"]["container"]["args"][-1] == "--once"


def test_conditions_and_loops_become_groups() -> None:
    def body(w: Workflow) -> None:
        first = toy("first", say="a b")
        loop = toy("loop", say="{{item}}", with_param=first.get_parameter("items"))
        static = toy("static", say="{{item}}!", with_items=["x", "y"])
        after = toy("after", say=loop.get_parameter("text"))
        maybe = toy("maybe", say=first.get_parameter("text"), when="{{tasks.first.outputs.parameters.text}} == go")
        then = toy("then", say=maybe.get_parameter("text"), when="{{tasks.first.outputs.parameters.text}} == go")
        first >> [loop, static, maybe] and loop >> after
        static >> after
        [first, maybe] >> then

    steps = read_ir.read(translate.to_yaml(build(body))).steps
    assert (steps["loop"].loop, steps["static"].loop, steps["after"].loop) == ("<first.items>", '["x", "y"]', "")
    assert steps["after"].before == {"loop", "static"} and "--say=<loop.text>" in steps["after"].argv
    assert steps["maybe"].condition == steps["then"].condition == "<first.text> == go"
    assert steps["then"].before == {"first", "maybe"}


def test_names_that_kubeflow_cannot_write_keep_apart() -> None:
    def body(w: Workflow) -> None:
        toy("Step-A", say=w.get_parameter("a-b"))
        toy("step-a", say=w.get_parameter("a_b"))

    document = build(body, **{"a-b": "1", "a_b": "2"})
    spec, _ = documents(translate.to_yaml(document))
    assert {task["taskInfo"]["name"] for task in spec["root"]["dag"]["tasks"].values()} == {"Step-A", "step-a"}
    assert set(spec["root"]["inputDefinitions"]["parameters"]) == {"a_b", "a_b_2", "store"}


# -- the command ------------------------------------------------------------------------------------------------------


def test_one_file_for_one_or_all_engines_and_strays_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    for name in ("sft", "deploy"):
        (tmp_path / f"workflows/{name}.py").write_text((ROOT / f"workflows/{name}.py").read_text())
    assert cli.main(["compile", "workflows/sft.py", "--engine", "template", "--profile", "test"]) == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.yaml")] == ["charts/mm1/files/test/sft.yaml"]
    assert cli.main(["compile"]) == 0 and cli.main(["compile", "--check"]) == 0
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("sft.yaml")} - {"charts/mm1/files/test/sft.yaml"}
    assert made == {
        "workflows/compiled/argo/sft.yaml",
        "workflows/compiled/kubeflow/sft.yaml",
        "charts/mm1/files/default/sft.yaml",
        "charts/mm1/files/smoke/sft.yaml",
    }
    (tmp_path / "workflows/sft.py").unlink()
    (tmp_path / "charts/mm1/files/default/own.yaml").write_text("kind: ConfigMap\n")
    assert cli.main(["compile", "--check"]) == 80 and all((tmp_path / path).is_file() for path in made)
    assert cli.main(["compile"]) == 0 and not any((tmp_path / path).is_file() for path in made)
    assert (tmp_path / "charts/mm1/files/default/own.yaml").is_file(), "what `mm1 compile` did not make it leaves alone"
    capsys.readouterr()
    assert cli.main(["compile", "--profile", "test", "--engine", "kubeflow"]) == 0
    assert "build/compiled/test/kubeflow" in capsys.readouterr().out.replace("\n", "")


# -- losses and refusals ----------------------------------------------------------------------------------------------


def test_losses_are_declared_once_per_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "workflows/deploy.py")
    assert cli.main(["compile", file, "--engine", "kubeflow", "--to", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for loss in losses.losses_of(load.load(file).document):
        assert shown.count(f"{loss.kind}: ") == 1, loss
    assert cli.main(["compile", file, "--engine", "argo", "--to", str(tmp_path)]) == 0
    assert "cannot express" not in capsys.readouterr().out


def plain() -> Document:
    """A workflow that Kubeflow says almost whole."""
    container = {"image": "i", "command": ["c"], "args": ["/out/o"]}
    step = {"name": "step", "container": container, "outputs": {"parameters": [{"name": "o", "valueFrom": {"path": "/out/o"}}]}}
    dag = {"name": "main", "dag": {"tasks": [{"name": "one", "template": "step"}]}}
    return {"kind": "Workflow", "metadata": {"name": "w"}, "spec": {"entrypoint": "main", "templates": [dag, step]}}


def step_of(document: Document) -> dict[str, Any]:
    found: dict[str, Any] = document["spec"]["templates"][1]
    return found


def test_a_container_without_arguments_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, arguments in (("without", {}), ("empty", {"args": None})):
        document = plain()
        step_of(document).pop("outputs")
        container = step_of(document)["container"]
        del container["args"]
        container |= arguments
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(document))
        assert cli.main(["compile", str(file), "--engine", "kubeflow", "--to", str(tmp_path / "out")]) == 0
        assert capsys.readouterr().out.startswith("1 workflow for kubeflow: 1 of 1 file changed")


LOST: dict[str, Callable[[Document], Any]] = {
    "accounts": lambda d: d["spec"].update(serviceAccountName="a"),
    "artifact-store": lambda d: d["spec"].update(archiveLogs=True),
    "choices": lambda d: d["spec"].update(arguments={"parameters": [{"name": "p", "value": "a", "enum": ["a", "b"]}]}),
    "claims": lambda d: step_of(d).update(
        volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}}]
    ),
    "grace": lambda d: step_of(d).update(podSpecPatch='{"terminationGracePeriodSeconds": 60}'),
    "metrics": lambda d: step_of(d)["outputs"].update(artifacts=[{"name": "m", "path": "/out/o/metrics.json"}]),
    "pod-clean-up": lambda d: d["spec"].update(podGC={"strategy": "OnPodCompletion"}),
    "pod-metadata": lambda d: d["metadata"].update(labels={"a": "b"}),
    "pod-network": lambda d: step_of(d)["container"].update(resources={"limits": {"nvidia.com/gpu": 8, "x.com/efa": 4}}),
    "ports": lambda d: step_of(d)["container"].update(ports=[{"name": "metrics", "containerPort": 9464}]),
    "pull-policy": lambda d: step_of(d)["container"].update(imagePullPolicy="Always"),
    "read-only-root": lambda d: step_of(d)["container"].update(securityContext={"readOnlyRootFilesystem": True}),
    "retry": lambda d: step_of(d).update(retryStrategy={"limit": 1, "expression": "asInt(lastRetry.exitCode) in [84]"}),
    "secrets": lambda d: step_of(d)["container"].update(envFrom=[{"secretRef": {"name": "s"}}]),
    "security": lambda d: step_of(d)["container"].update(securityContext={"capabilities": {"drop": ["ALL"]}}),
    "field priorityClassName": lambda d: step_of(d).update(priorityClassName="high"),
    "field affinity": lambda d: d["spec"].update(affinity={}),
    "volume v": lambda d: step_of(d).update(volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
}


@pytest.mark.parametrize("kind", LOST)
def test_each_loss_is_found_where_it_is(kind: str) -> None:
    document = plain()
    assert [loss.kind for loss in losses.losses_of(document)] == ["exit-codes"]
    LOST[kind](document)
    assert kind in [loss.kind for loss in losses.losses_of(document)]


def test_the_losses_of_groups_and_schedules() -> None:
    def body(w: Workflow) -> None:
        when = "{{tasks.a.outputs.parameters.text}} == x"
        a, b, c = toy("a"), toy("b", when=when), toy("c", when=when)
        [a, b] >> c
        a >> b

    assert "conditions" in [loss.kind for loss in losses.losses_of(build(body))]
    document = plain()
    cron = {
        "kind": "CronWorkflow",
        "metadata": {"name": "w"},
        "spec": {"schedules": ["@daily"], "workflowSpec": document["spec"]},
    }
    assert "schedule" in [loss.kind for loss in losses.losses_of(cron)]
    assert read_ir.read(translate.to_yaml(cron)).name == "w"


def test_every_kind_of_loss_is_explained_in_the_docs() -> None:
    page = (ROOT / "docs/how-to/kubeflow.md").read_text()
    assert [kind for kind in losses.KINDS if f"| `{kind}` |" not in page] == []


def test_a_container_by_hand_gets_its_paths_from_kubeflow() -> None:
    document = plain()
    step_of(document)["container"]["args"] = ["sh -c 'echo x > /out/o; ls /out/other /out/o.txt'"]
    container = documents(translate.to_yaml(document) + "---\n{}")[0]["deploymentSpec"]["executors"]["exec-one"]["container"]
    assert container["args"] == ["sh -c 'echo x > {{$.outputs.parameters['o'].output_file}}; ls /out/other /out/o.txt'"]
    assert "--once" not in container["args"], "only this project's steps know that option"


REFUSED: dict[str, tuple[Callable[[Document], Any], str]] = {
    "a fixed path": (lambda d: step_of(d)["container"].update(args=["x"]), "no argument contains this path"),
    "a reference in the environment": (
        lambda d: step_of(d)["container"].update(env=[{"name": "A", "value": "{{workflow.name}}"}]),
        "environment variable A",
    ),
    "an empty loop": (lambda d: d["spec"]["templates"][0]["dag"]["tasks"][0].update(withItems=[]), "empty list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_kubeflow_runs_in_no_way_is_refused(case: str) -> None:
    document = plain()
    REFUSED[case][0](document)
    with pytest.raises(ConfigurationError, match=REFUSED[case][1]):
        translate.to_yaml(document)


def test_a_condition_on_a_list_is_refused() -> None:
    def body(w: Workflow) -> None:
        a = toy("a", with_items=["x"])
        a >> toy("b", when="{{tasks.a.outputs.parameters.text}} == x")

    with pytest.raises(ConfigurationError, match=r"a\.text is a list"):
        translate.to_yaml(build(body))


def test_inputs_and_outputs_of_one_name() -> None:
    def body(w: Workflow) -> None:
        Container(
            name="same",
            image="i",
            command=["c"],
            args=["--in={{inputs.parameters.text}}", "--out=/tmp/text"],
            inputs=[Parameter(name="text")],
            outputs=[Parameter(name="text", value_from=ValueFrom(path="/tmp/text"))],
        )(arguments={"text": "hello"})

    step = read_ir.read(translate.to_yaml(build(body))).steps["same"]
    assert step.argv == ("c", "--in=hello", "--out=<output text>")
