"""Steps as Hera templates: arguments, types, hooks, profiles, loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hera.workflows import DAG, Container, Parameter, Workflow

from mm1.errors import ConfigurationError
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import InputType, spec_of
from mm1_workflows.argo.graph import read_template
from mm1_workflows.authoring import profiles, steps
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_steps import STEP
from tests.support.toy_workflows import build, toy


def body(w: Workflow) -> None:
    first = toy("first", say=w.get_parameter("word"), count=w.get_parameter("count"), seconds=0.5)
    second = toy("second", say=first.get_parameter("text"))
    first >> second


def test_a_step_becomes_one_template_with_all_its_inputs() -> None:
    document = build(body, word="x", count="3")
    templates = {item["name"]: item for item in document["spec"]["templates"]}
    assert list(templates) == ["main", "step-toy"]  # two tasks, one template
    template = read_template(templates["step-toy"])
    assert template.command == ("python", "-m", "tests.support.toy_steps")
    assert template.inputs == {
        "say": "", "then": "", "seconds": "0.0", "fail": "0", "fail_times": "0", "folder": "", "count": "3", "task": None,
    }  # fmt: skip
    assert template.input_types["seconds"] == "number" and template.input_types["count"] == "integer"
    assert "--fail-times={{inputs.parameters.fail_times}}" in template.args
    assert template.outputs == {"text": "/tmp/mm1/out/text", "items": "/tmp/mm1/out/items"}
    assert template.artifacts == {"summary-md": "/tmp/mm1/artifacts/summary.md"}
    arguments = read_workflow(document).tasks["first"].arguments
    assert arguments == {
        "say": "{{workflow.parameters.word}}", "count": "{{workflow.parameters.count}}", "seconds": "0.5", "task": "first",
    }  # fmt: skip


def test_unknown_and_missing_inputs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no input 'sya'; did you mean 'say'"):
        build(lambda w: toy("a", sya="x"))
    with pytest.raises(ConfigurationError, match="required inputs are missing: checkpoint"):
        build(lambda w: steps.evaluate())
    with pytest.raises(ConfigurationError, match="no step 'dance'"):
        build(lambda w: steps.dance())


def test_parameters_are_described_and_typed_by_the_inputs_they_feed() -> None:
    workflow = read_workflow(build(body, word="x", count="3"))
    assert workflow.parameters["count"].type == "integer"
    assert workflow.parameters["count"].description == "steps of progress"
    assert workflow.parameters["store"].value == "s3://mm1/store"


def test_typed_parameters_are_checked() -> None:
    workflow = read_workflow(build(body, word=None, count="3"))
    assert parameters.check(workflow, parameters.parse(["word=a=b", "count=4"]))["word"] == "a=b"
    for given, complaint in {
        ("word=x", "count=four"): "parameter count: expected an integer, got 'four'",
        ("word=x", "cuont=4"): "unknown parameter 'cuont'; did you mean 'count'",
        (): "parameter 'word' must be given",
    }.items():
        with pytest.raises(ConfigurationError, match=complaint) as caught:
            parameters.check(workflow, parameters.parse(given))
        assert "word   text, required; text that comes out again" in str(caught.value)
    for words in (["word"], ["=x"], ["word=1", "word=2"]):
        with pytest.raises(ConfigurationError):
            parameters.parse(words)


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        ("1", "integer", True),
        ("1.5", "integer", False),
        ("1.5", "number", True),
        ("True", "boolean", True),
        ("yes", "boolean", False),
        ("plain", ["plain", "chat"], True),
        ("x", ["plain", "chat"], False),
        ("", "manifest", True),
        ("s3://b/manifests/" + "a" * 64 + ".json", "manifest", True),
        ("/some/file", "manifest", False),
        ("/some/file", "source", True),
    ],
)
def test_types_of_parameters(value: str, kind: InputType, fits: bool) -> None:
    assert (parameters.mismatch(value, kind) is None) == fits


def test_templates_by_hand_get_what_every_template_has() -> None:
    def by_hand(w: Workflow) -> None:
        Container(name="hand", command=["true"], labels={"mm1.dev/pool": "train"})(name="hand")

    document = build(by_hand)
    template = next(item for item in document["spec"]["templates"] if item["name"] == "hand")
    pool = profiles.default().pools["train-h100"]
    assert template["container"]["resources"]["limits"]["nvidia.com/gpu"] == str(pool.gpus)
    assert template["nodeSelector"] == pool.labels
    assert {volume["name"] for volume in template["volumes"]} == {"tmp", "shm"}
    assert template["retryStrategy"] and template["activeDeadlineSeconds"] and template["container"]["securityContext"]
    assert json.loads(template["podSpecPatch"])["terminationGracePeriodSeconds"] == 60


WORKFLOW = """
from hera.workflows import DAG, Workflow
from mm1_workflows.authoring import steps
from tests.support.toy_steps import STEP

with Workflow(generate_name="toy-", entrypoint="main") as w:
    with DAG(name="main"):
        steps.task(STEP, name="one")
"""


def test_a_profile_changes_images_pools_and_store(tmp_path: Path) -> None:
    file, site = tmp_path / "flow.py", tmp_path / "site.yaml"
    file.write_text(WORKFLOW)
    digest = "registry.example.org/cpu@sha256:" + "1" * 64
    site.write_text(f"images: {{cpu: '{digest}'}}\npools: {{cpu: {{memory: 1Gi}}}}\nstore: s3://site/store\n")
    plain, sited = load(str(file)), load(str(file), str(site))
    container = spec_of(sited.document)["templates"][1]["container"]
    assert container["image"] == digest and container["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert read_workflow(sited.document).parameters["store"].value == "s3://site/store"
    assert sited.profile.image("trainer") == plain.profile.image("trainer")
    assert load(str(file)).document == plain.document  # nothing of the site's profile is left


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("none.py", None, "no such file"),
        ("words.txt", "x", "a Python file or a YAML file is wanted"),
        ("empty.py", "x = 1", "one workflow is wanted, there are 0"),
        ("broken.py", "x = 1\n1 / 0", "line 2: ZeroDivisionError"),
        ("syntax.py", "def", "SyntaxError"),
        ("bad.yaml", "a: [", "not YAML"),
        ("two.yaml", "a: 1\n---\nb: 2", "exactly one YAML object"),
    ],
)
def test_files_that_hold_no_workflow(tmp_path: Path, name: str, text: str | None, complaint: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        load(str(path))


def test_one_of_several_workflows_is_named_after_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(WORKFLOW + WORKFLOW.replace("as w", "as other").replace("toy-", "other-"))
    with pytest.raises(ConfigurationError, match="choose one"):
        load(str(file))
    assert read_workflow(load(f"{file}:other").document).name == "other"
    with pytest.raises(ConfigurationError, match="did you mean 'other'"):
        load(f"{file}:ohter")


@pytest.mark.parametrize(
    ("name", "complaint"), [("deflt", "did you mean 'default'"), ("/no/such.yaml", "no such file"), ("bad.yaml", "images")]
)
def test_profiles_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, complaint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("images: 3")
    with pytest.raises(ConfigurationError, match=complaint):
        profiles.read(name)


def test_building_twice_gives_the_same() -> None:
    words = [Parameter(name="word", value="a")]
    with Workflow(generate_name="x-", entrypoint="main", arguments=words) as w, DAG(name="main"):
        steps.task(STEP, name="one", say=w.get_parameter("word"))
    assert w.to_dict() == w.to_dict()
