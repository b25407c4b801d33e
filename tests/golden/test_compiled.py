"""The committed YAML is what the workflow files say for each engine, is valid Argo, and needs no torch to be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hera.workflows import Parameter

from mm1_workflows.argo.document import parameters_of, spec_of
from mm1_workflows.argo.expressions import substitute
from mm1_workflows.authoring import profiles, shared_parameters
from mm1_workflows.engines import yaml as compiler
from mm1_workflows.rules import policy
from mm1_workflows.rules.reading import read_workflow

pytestmark = pytest.mark.golden

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "workflows/compiled/argo"
FILES = sorted((ROOT / "workflows").glob("*.py"))


@pytest.mark.parametrize("engine", compiler.ENGINES)
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_committed_yaml_is_up_to_date(file: Path, engine: compiler.Engine) -> None:
    committed = ROOT / compiler.folder_of(engine) / f"{file.stem}.yaml"
    assert committed.read_text() == compiler.compiled(str(file), engine=engine), "run `make compile`"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_templates_of_the_trial_are_up_to_date(file: Path) -> None:
    committed = ROOT / compiler.folder_of("template", compiler.TRIAL) / f"{file.stem}.yaml"
    assert committed.read_text() == compiler.compiled(str(file), compiler.TRIAL, "template"), "run `make compile`"


@pytest.mark.parametrize("engine", compiler.ENGINES)
def test_there_is_no_yaml_without_a_workflow_file(engine: compiler.Engine) -> None:
    folder = ROOT / compiler.folder_of(engine)
    assert sorted(path.stem for path in folder.iterdir()) == [path.stem for path in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_chart_s_templates_are_the_workflows_under_a_name(file: Path) -> None:
    from hera.workflows.models import WorkflowTemplate

    document = yaml.safe_load((FOLDER / f"{file.stem}.yaml").read_text())
    template = yaml.safe_load((ROOT / compiler.folder_of("template") / f"{file.stem}.yaml").read_text())
    assert template["spec"] == document["spec"]
    assert template["metadata"]["name"] == document["metadata"]["generateName"].removesuffix("-")
    assert "namespace" not in template["metadata"]
    built = WorkflowTemplate.model_validate(template)
    assert built.model_dump(exclude_none=True, by_alias=True) == template


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_committed_yaml_keeps_the_rules_and_is_valid_argo(file: Path) -> None:
    from hera.workflows.models import Workflow

    document = yaml.safe_load((FOLDER / f"{file.stem}.yaml").read_text())
    errors = [str(finding) for finding in policy.check(document, profiles.default()) if finding.severity == "error"]
    assert errors == []
    built = Workflow.model_validate(document)
    assert built.model_dump(exclude_none=True, by_alias=True) == document
    assert read_workflow(document).on_exit


def test_the_whole_chain_is_there() -> None:
    workflow = read_workflow(yaml.safe_load((FOLDER / "full.yaml").read_text()))
    edges = {name: set(task.depends) for name, task in workflow.tasks.items()}
    assert edges["ingest"] == set()
    assert edges["pretrain"] == {"text-base", "mix"}
    assert edges["gate"] == {"sft", "evaluate-sft"}
    assert edges["deploy"] == {"sft", "gate"}
    pools = {task.template.step: task.template.pool for task in workflow.tasks.values()}
    assert pools["ingest"] == "cpu" and pools["pretrain"] == "cpu" and pools["evaluate"] == "eval-l40s"
    assert {task.template.launches for task in workflow.tasks.values() if task.template.step in ("pretrain", "sft")} == {
        "train-h100"
    }


def test_a_retraining_that_waits_starts_nothing_after_its_decision() -> None:
    workflow = read_workflow(yaml.safe_load((FOLDER / "retrain.yaml").read_text()))
    always = {name for name, task in workflow.tasks.items() if task.when is None}
    assert always == {"ingest", "decide"}
    assert {str(task.when) for name, task in workflow.tasks.items() if name not in always} == {str(workflow.tasks["mix"].when)}
    arguments = {name: task.arguments for name, task in workflow.tasks.items()}
    outputs = "{{tasks.%s.outputs.parameters.%s}}"
    assert arguments["pretrain"]["init"] == outputs % ("decide", "init")
    assert arguments["pretrain"]["device_hours"] == outputs % ("decide", "device_hours")
    assert arguments["sft"]["device_hours"] == outputs % ("pretrain", "device_hours_left")
    assert arguments["gate"]["serving"] == outputs % ("decide", "serving")
    assert arguments["deploy"]["decision"] == arguments["rollout"]["decision"] == outputs % ("gate", "decision")
    assert arguments["rollout"]["deployment"] == outputs % ("deploy", "manifest")
    assert arguments["rollout"]["target"] == arguments["decide"]["target"]
    assert {arguments[task]["as_of"] for task in ("mix", "instruction-mix")} == {outputs % ("decide", "as_of")}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_parameter_is_described_and_offers_its_choices(file: Path) -> None:
    document = yaml.safe_load((FOLDER / f"{file.stem}.yaml").read_text())
    workflow = read_workflow(document)
    for raw in parameters_of(spec_of(document)):
        assert raw.get("description"), raw["name"]
        kind = workflow.parameters[raw["name"]].type
        assert raw.get("enum") == (kind if isinstance(kind, list) else None), raw["name"]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_shared_parameters_are_the_same_in_every_file(file: Path) -> None:
    shared = [
        parameter
        for value in vars(shared_parameters).values()
        for parameter in (value if isinstance(value, tuple) else [value])
        if isinstance(parameter, Parameter)
    ]
    departures = {
        "ingest": {"instructions"},
        "sft": {"recipe", "overrides", "captions", "interleaved", "text"},
        "continual": {"recipe", "overrides", "image_size", "captions", "interleaved", "text"},
        "encoder": {"recipe", "overrides"},
        "retrain": {"tokenizer", "device_hours"},
    }.get(file.stem, set())
    raws = parameters_of(spec_of(yaml.safe_load((FOLDER / f"{file.stem}.yaml").read_text())))
    declared = {raw["name"]: (raw.get("value"), raw["description"]) for raw in raws}
    for parameter in shared:
        if parameter.name in declared.keys() - departures:
            assert declared[parameter.name] == (parameter.value, parameter.description)


def test_fine_tuning_alone_mixes_as_the_whole_chain_does() -> None:
    def mixture(file: str, task: str) -> dict[str, str]:
        workflow = read_workflow(yaml.safe_load((FOLDER / f"{file}.yaml").read_text()))
        values = {f"workflow.parameters.{name}": item.value or "" for name, item in workflow.parameters.items()}
        arguments = workflow.tasks[task].arguments
        return {name: substitute(arguments[name], values.__getitem__) for name in arguments if name not in ("data", "task")}

    assert mixture("sft", "mix") == mixture("full", "instruction-mix")


def test_the_stub_of_steps_is_up_to_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    (stub,) = compiler.stub_files()
    assert stub.path.read_text() == stub.text, "run `make compile`"
    monkeypatch.chdir(tmp_path)
    assert compiler.stub_files() == [], "outside a checkout it came with the package"


def test_compiling_twice_gives_the_same_and_imports_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from mm1_workflows.engines.yaml import compiled; "
        f"a, b = compiled({str(FILES[0])!r}), compiled({str(FILES[0])!r}); "
        "assert a == b; assert not {'torch', 'transformers', 'kubernetes', 'kfp'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
