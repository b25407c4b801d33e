"""From a file to a workflow: Python files, helper modules, functions, YAML, and what a file does wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from mm1.errors import ConfigurationError, Outcome
from mm1_workflows import steps
from mm1_workflows.argo.document import name_of
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.reading import read_workflow

FLOW = """
from hera.workflows import DAG, Workflow
from mm1_workflows import steps
from tests.support.toy_steps import STEP

with Workflow(generate_name="toy-", entrypoint="main") as w:
    with DAG(name="main"):
        steps.task(STEP, name="one")
"""
MAKE = """
from hera.workflows import DAG, Workflow
from mm1_workflows import steps
from tests.support.toy_steps import STEP

def make(name="made-") -> Workflow:
    with Workflow(generate_name=name, entrypoint="main") as w, DAG(name="main"):
        steps.task(STEP, name="one")
    return w

def of_size(size: int) -> Workflow:
    return make(f"size-{size}-")

def untold():
    return make("untold-")

def number() -> int:
    return 1
"""


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("none.py", None, "no such file"),
        ("words.txt", "x", "expected a Python file or a YAML file"),
        ("empty.py", "x = 1", "expected a workflow, got none"),
        ("broken.py", "x = 1\n1 / 0", r"broken\.py, line 2: ZeroDivisionError: division by zero"),
        ("exits.py", "import sys\n\nsys.exit(3)", r"exits\.py, line 3: called sys\.exit\(3\)"),
        ("stops.py", "class Stop(BaseException): pass\nraise Stop", r"stops\.py, line 2: Stop$"),
        ("generator.py", "raise GeneratorExit", r"generator\.py, line 1: GeneratorExit$"),
        (
            "mute.py",
            "class Mute(Exception):\n    def __str__(self):\n        return 1 / 0\nraise Mute",
            r"mute\.py, line 4: Mute, whose __str__ raises ZeroDivisionError$",
        ),
        ("async.py", "from hera.workflows import Workflow\nasync def f() -> Workflow: ...", "expected a workflow, got none"),
        ("syntax.py", "x = 1\ndef", r"syntax\.py, line 2: SyntaxError: invalid syntax"),
        ("unknown.py", "from mm1_workflows import steps\nsteps.dance()", r"unknown\.py, line 2: no step 'dance'"),
        (
            "unbuilt.py",
            "from hera.workflows import Workflow\nw = Workflow(name='w', templates=[1])",
            r"unbuilt\.py: InvalidType",
        ),
        ("bad.yaml", "a: [", "invalid YAML"),
        ("binary.yaml", b"\xff\xfe\x00", "invalid YAML"),
        ("two.yaml", "kind: Workflow\n---\nb: 2", "expected one Argo object, got Workflow, an object without a kind"),
        ("list.yaml", "- a\n- b", "expected one Argo object, got a list of 2"),
        ("text.yaml", "just text", "expected one Argo object, got the text 'just text'"),
        ("itself.yaml", "a: &a [*a]", "invalid YAML: Circular reference"),
        ("pair.yaml", "? [a, b]\n: 1", "invalid YAML"),
        ("deep.yaml", "[" * 5000, "invalid YAML"),
        ("blank.yaml", "---\n", "expected one Argo object, got nothing"),
    ],
)
def test_files_that_hold_no_workflow(tmp_path: Path, name: str, text: str | bytes | None, complaint: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load(str(path))
    assert caught.value.outcome == Outcome.CONFIGURATION


PLAIN = """
from hera.workflows import DAG, Container, Workflow

with Workflow(generate_name="plain-", entrypoint="main") as w:
    one = Container(name="one", image="image", command=["true"])
    with DAG(name="main"):
        one()
"""


def test_a_template_by_hand_gets_what_every_template_gets_whatever_was_loaded_before(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text(PLAIN)
    code = (
        "import sys; from mm1_workflows.authoring.load import load; "
        f"spec = load({str(file)!r}).document['spec']; sys.exit('retryStrategy' not in spec['templates'][0])"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_what_a_file_prints_is_not_part_of_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flow.py"
    file.write_text(FLOW + "print('made')\n")
    load(str(file))
    assert capsys.readouterr() == ("", "made\n")


def test_a_step_that_does_not_exist_is_no_attribute() -> None:
    assert hasattr(steps, "pretrain") and not hasattr(steps, "nope")
    with pytest.raises(ConfigurationError, match="no step 'pretrian'; did you mean 'pretrain'"):
        _ = steps.pretrian  # type: ignore[attr-defined]


def test_an_interrupt_is_not_an_error_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(str(file))


def test_a_file_is_named_as_a_person_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flows").mkdir()
    Path("flows/flow.py").write_text("1 / 0")
    with pytest.raises(ConfigurationError, match=r"^workflow file flows/flow\.py, line 1: ZeroDivisionError"):
        load("flows/flow.py")


def test_one_of_several_workflows_is_named_after_a_colon(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(FLOW + FLOW.replace("as w", "as other").replace("toy-", "other-"))
    with pytest.raises(ConfigurationError, match=r"expected one workflow, got 2; choose one as .*flow\.py:NAME \(w, other\)"):
        load(str(file))
    assert name_of(load(f"{file}:other").document) == "other"
    file.write_text(file.read_text() + "same = w\n")
    with pytest.raises(ConfigurationError, match=r"\(w, other\)"):
        load(str(file))
    with pytest.raises(ConfigurationError, match="did you mean 'other'"):
        load(f"{file}:ohter")


def test_a_workflow_with_two_names_is_one(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(FLOW + "same = w\n")
    assert name_of(load(str(file)).document) == "toy"


@pytest.mark.parametrize("annotation", ["Workflow", "'Workflow'", '"Workflow"', "hera.workflows.Workflow"])
@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_a_function_with_two_names_is_one(tmp_path: Path, future: str, annotation: str) -> None:
    file = tmp_path / "flow.py"
    file.write_text(future + "import hera.workflows\n" + MAKE.replace("-> Workflow", f"-> {annotation}") + "\nother = make\n")
    assert name_of(load(str(file)).document) == "made"


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_a_workflow_may_be_made_by_a_function(tmp_path: Path, future: str) -> None:
    file = tmp_path / "flow.py"
    file.write_text(future + MAKE)
    assert name_of(load(str(file)).document) == "made"
    assert name_of(load(f"{file}:make").document) == "made"
    assert name_of(load(f"{file}:untold").document) == "untold"
    for name, complaint in {
        "of_size": "expected a function without arguments, but of_size requires size",
        "number": r"expected a workflow, but number\(\) returned a int",
        "STEP": "got STEP, a Step",
    }.items():
        with pytest.raises(ConfigurationError, match=complaint):
            load(f"{file}:{name}")
    file.write_text(MAKE + "def another() -> Workflow:\n    return make()\n")
    with pytest.raises(ConfigurationError, match=r"got 2; choose one as .*:NAME \(make, another\)"):
        load(str(file))


def test_a_workflow_of_the_file_goes_before_functions(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(MAKE + FLOW)
    assert name_of(load(str(file)).document) == "toy"


def write_with_helper(folder: Path, name: str) -> Path:
    """A workflow file that imports modules beside it, one of them only when the workflow is made."""
    (folder / "parts").mkdir(parents=True)
    (folder / "shapes.py").write_text(f"NAME = '{name}-'\n")
    (folder / "parts/__init__.py").write_text("")
    (folder / "parts/late.py").write_text("from shapes import NAME\n")
    file = folder / "flow.py"
    file.write_text(MAKE.replace('"made-"', "None").replace("    with", "    from parts.late import NAME as name\n    with"))
    return file


def test_a_file_imports_the_modules_beside_it_and_only_those(tmp_path: Path) -> None:
    before, path = set(sys.modules), list(sys.path)
    for name in ("left", "right", "left"):
        folder = tmp_path / name
        file = folder / "flow.py" if folder.is_dir() else write_with_helper(folder, name)
        assert name_of(load(str(file)).document) == name
    assert not {"shapes", "parts", "parts.late"} & (set(sys.modules) - before)
    assert sys.path == path


def test_an_error_in_a_module_beside_the_file_names_that_module(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text("\n1 / 0\n")
    (tmp_path / "flow.py").write_text("import shapes\n")
    with pytest.raises(ConfigurationError, match=r"flow\.py, shapes\.py, line 2: ZeroDivisionError"):
        load(str(tmp_path / "flow.py"))
    assert "shapes" not in sys.modules


class MadeUp(ModuleType):
    """A module that has any attribute, as ``torch.classes`` has."""

    def __getattr__(self, name: str) -> object:
        return object()


def test_modules_with_made_up_attributes_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flow.py").write_text("import sys, made_up\nsys.modules['made_up.too'] = made_up\n" + FLOW)
    monkeypatch.setitem(sys.modules, "made_up", MadeUp("made_up"))
    assert name_of(load(str(tmp_path / "flow.py")).document) == "toy"
    assert sys.modules.pop("made_up.too") is sys.modules["made_up"]


def test_a_module_beside_the_file_shadows_no_package(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "flow.py").write_text("import colorsys\nassert colorsys.rgb_to_hsv\n" + FLOW)
    assert name_of(load(str(tmp_path / "flow.py")).document) == "toy"


def test_a_file_may_change_the_search_path_itself(tmp_path: Path) -> None:
    path = list(sys.path)
    try:
        (tmp_path / "flow.py").write_text(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" + FLOW)
        load(str(tmp_path / "flow.py"))
        assert sys.path == [str(tmp_path), *path]
    finally:
        sys.path[:] = path


def test_a_file_that_is_imported_in_place_of_a_package_is_named(tmp_path: Path) -> None:
    """``python -m`` puts the current folder before the packages."""
    (tmp_path / "yaml.py").write_text(FLOW)
    command = [sys.executable, "-m", "mm1_workflows.cli", "run", "yaml.py", "--list"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == Outcome.CONFIGURATION
    file = tmp_path / "yaml.py"
    message = f"error {file} shadows the package yaml: rename it"
    assert ended.stderr.splitlines()[0] == message and len(ended.stderr.splitlines()) == 2


def test_the_example_for_contributors_is_a_workflow(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```python\n")[1:]]
    example = textwrap.dedent(next(block for block in blocks if "with Workflow(" in block))
    (tmp_path / "tune.py").write_text(example)
    workflow = read_workflow(load(str(tmp_path / "tune.py")).document)
    assert workflow.tasks["pretrain"].depends == ("data-mix",)


def test_reading_yaml_imports_no_hera() -> None:
    """``mm1 run FILE.yaml`` starts in a fraction of the time."""
    compiled = Path(__file__).parents[3] / "workflows/compiled/argo/sft.yaml"
    program = (
        "import sys; from mm1_workflows.authoring.load import load; from mm1_workflows.rules.reading import read_workflow; "
        "from mm1_workflows.rules.values import check_values; "
        f"workflow = read_workflow(load({str(compiled)!r}).document); check_values(workflow, {{}}, on_cluster=False); "
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('hera', 'kfp', 'torch')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
