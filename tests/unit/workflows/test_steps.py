"""Steps as Hera templates and tasks: arguments, signatures, edges, types, hooks, profiles."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hera.workflows import DAG, Container, Parameter, Task, Workflow

from mm1.errors import ConfigurationError
from mm1_components import gate
from mm1_components.wrapper import registry
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import Document, InputType, spec_of
from mm1_workflows.argo.graph import read_template
from mm1_workflows.authoring import profiles, signatures, steps
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.finding import PolicyError
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_steps import STEP
from tests.support.toy_workflows import build, toy

ROOT = Path(__file__).parents[3]


def body(w: Workflow) -> None:
    first = toy("first", say=w.get_parameter("word"), count=w.get_parameter("count"), seconds=0.5)
    toy("second", say=first.get_parameter("text"))


def test_a_step_becomes_one_template_with_all_its_inputs() -> None:
    document = build(body, word="x", count="3")
    templates = {item["name"]: item for item in document["spec"]["templates"]}
    assert list(templates) == ["main", "step-toy"]  # two tasks, one template
    template = read_template(templates["step-toy"])
    assert template.command == ("python", "-m", "tests.support.toy_steps")
    assert template.inputs == {
        "say": "", "then": "", "seconds": "0.0", "fail": "0", "fail_times": "0", "folder": "", "count": "3", "company": "1",
        "outlives": "", "task": None,
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
    with pytest.raises(ConfigurationError, match="missing required inputs: checkpoint"):
        build(lambda w: steps.evaluate())
    with pytest.raises(ConfigurationError, match="no step 'dance'"):
        build(lambda w: steps.dance())


def test_parameters_are_typed_by_the_inputs_they_feed() -> None:
    workflow = read_workflow(build(body, word="x", count="3"))
    assert workflow.parameters["count"].type == "integer"
    assert workflow.parameters["store"].value == "s3://mm1/store"
    assert workflow.parameters["store"].description.startswith("object store")


def test_steps_look_like_functions() -> None:
    """Signature, docstring and names are what editors and ``help`` show."""
    signature = inspect.signature(steps.data_mix)
    assert next(iter(signature.parameters)) == "data" and signature.parameters["data"].default is inspect.Parameter.empty
    assert signature.parameters["max_images"].default == 24 and signature.parameters["max_images"].annotation is int
    assert {"name", "when", "with_param", "with_items"} <= set(signature.parameters)
    assert (
        steps.data_mix.__doc__
        and "sequence_length: length of a packed sequence, in tokens [default: 128]" in steps.data_mix.__doc__
    )
    assert {"data_mix", "pretrain", "given", "task"} <= set(dir(steps)) and "wrapper" not in dir(steps)
    assert not hasattr(steps, "__wrapped__")


@pytest.mark.parametrize("name", registry.names())
def test_a_step_is_described_and_leaves_the_task_s_keywords_free(name: str) -> None:
    step = registry.declaration(name)
    fields = step.inputs.model_fields | step.outputs.model_fields
    assert [field for field, info in fields.items() if not info.description] == []
    assert not signatures.TASK_KEYWORDS.keys() & step.inputs.model_fields.keys()


@pytest.mark.parametrize(
    ("name", "hint"), [("pools", "known: acceptance"), ("wrapper", "known:"), ("data_mx", "mean 'data_mix'")]
)
def test_what_is_no_step_is_refused_with_the_nearest_names(name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        steps.declaration(name)


def test_a_step_is_named_like_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (replace(gate.STEP, name="gait"), replace(gate.STEP, inputs=STEP.inputs)):
        monkeypatch.setattr(gate, "STEP", wrong)
        with pytest.raises(ConfigurationError, match=r"mm1_components.gate: expected STEP.name 'gate'"):
            registry.declaration("gate")


def test_a_step_in_a_workflow_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    lines = ["from dataclasses import replace", "from pydantic import BaseModel", "class Inputs(BaseModel): pass"]
    file.write_text("\n".join([*lines, WORKFLOW.replace("STEP, name", "replace(STEP, inputs=Inputs), name")]))
    with pytest.raises(ConfigurationError, match="line 11: step toy needs a module of its own"):
        load(str(file))


FLOW = """
from hera.workflows import DAG, Workflow

from mm1_workflows import steps
from mm1_workflows.authoring.shared_parameters import MIXING

with Workflow(generate_name="x-", entrypoint="main", arguments=[*MIXING]) as w, DAG(name="main"):
    mix = steps.data_mix(data="address", seed=1, **steps.given(*MIXING))
    steps.pretrain(data=mix.get_parameter("manifest"), recipe="mm1_tiny", name="train")
"""


def test_a_type_checker_sees_the_inputs_of_steps(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(FLOW)
    wrong.write_text(FLOW.replace("seed=1", "sede=1").replace('recipe="mm1_tiny", ', ""))
    mypy = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run([*mypy, str(right), str(wrong)], cwd=ROOT, capture_output=True, text=True)
    errors = [line.split("error: ")[1] for line in checked.stdout.splitlines() if "error: " in line]
    assert errors == [
        'Unexpected keyword argument "sede" for "data_mix"  [call-arg]',
        'Missing named argument "recipe" for "pretrain"  [call-arg]',
    ], checked.stdout


def build_given(**renamed: str) -> Document:
    word = Parameter(name="word", value="a")
    arguments = [word, Parameter(name="count", value="2"), Parameter(name="other", value="b")]
    with Workflow(generate_name="x-", entrypoint="main", arguments=arguments) as w, DAG(name="main"):
        steps.task(STEP, name="one", **steps.given("count", say=word, **renamed))
    document: Document = w.to_dict()
    return document


def test_given_parameters_feed_inputs_of_the_same_name_or_another() -> None:
    arguments = read_workflow(build_given(then="other")).tasks["one"].arguments
    assert arguments == {
        "count": "{{workflow.parameters.count}}",
        "say": "{{workflow.parameters.word}}",
        "then": "{{workflow.parameters.other}}",
        "task": "one",
    }


def test_given_parameters_must_be_declared() -> None:
    with pytest.raises(ConfigurationError, match="has no parameter 'othr'; did you mean 'other'"):
        build_given(then="othr")
    with pytest.raises(ConfigurationError, match="inside `with Workflow"):
        steps.given("count")


def edges(document: Document) -> dict[str, tuple[str, ...]]:
    return {name: task.depends for name, task in read_workflow(document).tasks.items()}


def test_a_task_depends_on_the_tasks_whose_outputs_it_refers_to() -> None:
    def body(w: Workflow) -> None:
        ask = toy("ask", say="go")
        words = toy("words")
        toy("act", when=f"{ask.get_parameter('text')} == go")
        toy("each", say="{{item}}", with_param=words.get_parameter("items"))
        both = toy("both", say=f"{words.get_parameter('text')} of {ask.get_parameter('text')}")
        words >> both  # written twice: one edge
        ask >> toy("after")  # an edge without data
        Task(name="hand", template="step-toy", arguments={"say": ask.get_parameter("text"), "task": "hand"})

    assert edges(build(body)) == {
        "ask": (), "words": (), "act": ("ask",), "each": ("words",), "both": ("words", "ask"), "after": ("ask",),
        "hand": ("ask",),
    }  # fmt: skip


def test_references_in_a_circle_are_refused() -> None:
    with pytest.raises(PolicyError, match="P003 tasks a, b: depend on each other in a cycle"):
        read_workflow(build(lambda w: [toy("a", say=text("b")), toy("b", say=text("a"))]))


def text(task: str) -> str:
    return f"{{{{tasks.{task}.outputs.parameters.text}}}}"


def test_typed_parameters_are_checked() -> None:
    workflow = read_workflow(build(body, word=None, count="3"))
    assert parameters.check(workflow, parameters.parse(["word=a=b", "count=4"]))["word"] == "a=b"
    for given, complaint in {
        ("word=x", "count=four"): "parameter count: expected an integer, got 'four'",
        ("word=x", "cuont=4"): "unknown parameter 'cuont'; did you mean 'count'",
        (): "parameter 'word' is required",
    }.items():
        with pytest.raises(ConfigurationError, match=complaint) as caught:
            parameters.check(workflow, parameters.parse(given), "my flow.py")
        *_, last = str(caught.value).splitlines()
        assert last == "all parameters: mm1 run 'my flow.py' --list"
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


def test_a_step_may_have_an_account_of_its_own_and_the_key_of_the_served_model(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("serving_secret: mm1-api-key\naccounts: {rollout: site-rollout}\n")
    bodies = spec_of(load(str(ROOT / "workflows/rollout.py"), str(tmp_path / "site.yaml")).document)["templates"]
    rollout, report = (next(each for each in bodies if each["name"] == f"step-{name}") for name in ("rollout", "report"))
    assert rollout["serviceAccountName"] == "site-rollout" and "serviceAccountName" not in report
    key = {"name": "MM1_API_KEY", "valueFrom": {"secretKeyRef": {"name": "mm1-api-key", "key": "api-key"}}}
    assert rollout["container"]["env"] == [key] and "env" not in report["container"]
    with pytest.raises(ConfigurationError, match="no role 'rolout'; did you mean 'rollout'"):
        profiles.default().account("rolout")
