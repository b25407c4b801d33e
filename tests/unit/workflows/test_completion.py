"""Completion as a person meets it: in a real bash on a terminal."""

from __future__ import annotations

import os
import pty
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mm1.train.plan import speed
from mm1_workflows.authoring import pipelines
from mm1_workflows.authoring.load import load
from mm1_workflows.authoring.parameter_names import parameter_names
from mm1_workflows.cli import completion
from mm1_workflows.cli.commands import plan
from mm1_workflows.cli.options import complete_path, complete_workflow
from mm1_workflows.rules.reading import read_workflow

ROOT = Path(__file__).resolve().parents[3]
SHOW = b"\x14"
"""Ctrl-T, with which the shell below shows its line."""
CLEAR = b"\x15"
SETUP = r"""
PS1=; bind 'set show-all-if-ambiguous on'; bind 'set completion-query-items 0'; bind 'set page-completions off'
bind 'set enable-bracketed-paste off'; bind -x '"\C-t": printf "<%s>\n" "$READLINE_LINE"'
mm1 --completion generate > complete.bash && source complete.bash; echo "<"ready">"
"""


WORKFLOW = """
from hera.workflows import Parameter, WorkflowTemplate
from mm1_workflows.authoring.shared_parameters import RANKS, SEED as START
import a_package_that_is_not_there

own = [Parameter(name="least", value="1"), Parameter(name=f"hid{'den'}")]
w = WorkflowTemplate(entrypoint="x", arguments=[*own, *RANKS, START, UNKNOWN, make(), Parameter(name="last", value="x")])
c = Container(name="c", inputs=[Parameter(name="not_of_the_workflow")])
"""


class Terminal:
    """A bash on a terminal, with the completion of ``mm1``."""

    def __init__(self, folder: Path) -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ |= {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SHELL": "/bin/bash", "TERM": "dumb",
                "HF_TOKEN": "a-secret", "INPUTRC": os.devnull,
            }  # fmt: skip
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.answer(SETUP.encode(), "<ready>")

    def answer(self, keys: bytes, end: str) -> str:
        """What is on the screen after some keys, up to this."""
        os.write(self.handle, keys)
        output = ""
        while not re.search(end, output):
            output += os.read(self.handle, 4096).decode()
        return output

    def complete(self, line: str) -> tuple[str, list[str]]:
        """The line after Tab, and the words that are listed below it."""
        output = self.answer(line.encode() + b"\t" + SHOW, r"<.*>\r\n")
        listing, completed = re.split(r"<(.*)>\r\n", output)[:2]
        os.write(self.handle, CLEAR)
        return completed, listing.split("\n", 1)[1].split() if "\n" in listing else []


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("completion")
    for name in ("pipeline.py", "pip.txt", "my flow.py", "workflows/a.py", "workflows/b.yaml", "o'clock/x.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    for store, run in (("runs/store", "mine"), ("runs/store", "mine-2"), ("runs/store", "toy"), ("second store", "elsewhere")):
        (folder / store / "runs" / run).mkdir(parents=True)
    (folder / "picked.py").write_text(WORKFLOW)
    terminal = Terminal(folder)
    yield terminal
    os.close(terminal.handle)
    os.waitpid(terminal.pid, 0)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("mm1 comp", "mm1 comp"),
        ("mm1 compi", "mm1 compile "),
        ("mm1 submit --prof", "mm1 submit --profile "),
        ("mm1 compile --engine kub", "mm1 compile --engine kubeflow "),
        ("mm1 run pip", "mm1 run pipeline.py "),
        ("mm1 lint pip", "mm1 lint pipeline.py "),
        ("mm1 lint pipeline.py pip", "mm1 lint pipeline.py pipeline.py "),
        ("mm1 run workfl", "mm1 run workflows/"),
        ("mm1 run my", r"mm1 run my\ flow.py "),
        ("mm1 run 'my", "mm1 run 'my flow.py' "),
        ("mm1 run o", r"mm1 run o\'clock/"),
        (r"mm1 run o\'clock/", r"mm1 run o\'clock/x.py "),
        ("mm1 run --store=work", "mm1 run --store=workflows/"),
        ("mm1 lint --values pip", "mm1 lint --values pip"),
        ("mm1 run mm1:pre", "mm1 run mm1:pretrain "),
        ("mm1 lint m", "mm1 lint m"),
        ("mm1 lint mm", "mm1 lint mm1:"),
        ("mm1 run 'mm1:pre", "mm1 run 'mm1:pretrain' "),
        ("cd /; A=1 mm1 run pip", "cd /; A=1 mm1 run pipeline.py "),
        ("mm1 run pipeline.py pip", "mm1 run pipeline.py pip"),
        ("mm1 nothing pip", "mm1 nothing pip"),
        ("mm1 runs to", "mm1 runs toy "),
        ("mm1 compare toy min", "mm1 compare toy mine"),
        ("mm1 export min", "mm1 export mine"),
        ("mm1 pin best to", "mm1 pin best toy "),
        ("mm1 pin to", "mm1 pin to"),
        ("mm1 lineage to", "mm1 lineage toy "),
        ("mm1 data stats to", "mm1 data stats toy "),
        ("mm1 data show --store 'second store' els", "mm1 data show --store 'second store' elsewhere "),
        (r"mm1 runs --store=second\ store els", r"mm1 runs --store=second\ store elsewhere "),
        ("mm1 gc --keep-run=to", "mm1 gc --keep-run=toy "),
        ("mm1 runs --store s3://bucket/x to", "mm1 runs --store s3://bucket/x to"),
        ("mm1 runs --store nowhere to", "mm1 runs --store nowhere to"),
        ("mm1 run picked.py -p lea", "mm1 run picked.py -p least="),
        ("mm1 run picked.py:w --parameter=se", "mm1 run picked.py:w --parameter=seed="),
        ("mm1 submit -n team picked.py -p seed=1 -p noth", "mm1 submit -n team picked.py -p seed=1 -p noth"),
        ("mm1 run picked.py -p not_", "mm1 run picked.py -p not_"),
        ("mm1 run mm1:full -p captions=pip", "mm1 run mm1:full -p captions=pip"),
        ("mm1 run mm1:full -p captions=workfl", "mm1 run mm1:full -p captions=workflows/"),
        ("mm1 run -p se", "mm1 run -p se"),
        ("mm1 plan --recipe mm1_30", "mm1 plan --recipe mm1_30b "),
        ("mm1 plan --gpu a100-8", "mm1 plan --gpu a100-80 "),
        ("mm1 recipes mm1_tiny_l", "mm1 recipes mm1_tiny_lm "),
        ("mm1 runs --state st", "mm1 runs --state stopped "),
        ("mm1 runs --cluster --state wa", "mm1 runs --cluster --state waiting "),
        ("mm1 submit --dry-run=c", "mm1 submit --dry-run=client "),
        ("mm1 run nowhere/x", "mm1 run nowhere/x"),
    ],
)
def test_a_line_is_completed(terminal: Terminal, line: str, completed: str) -> None:
    after, listing = terminal.complete(line)
    assert after == completed and not {"Usage:", "Error:", "Traceback"} & set(listing)


@pytest.mark.parametrize(
    ("line", "listing"),
    [
        ("mm1 r", ["run", "retry", "runs", "rollout", "recipes"]),
        ("mm1 data s", ["stats", "show", "shards", "score"]),
        ("mm1 run workflows/", ["a.py", "b.yaml"]),
        (
            "mm1 lint mm1:",
            [
                "ablate",
                "acceptance",
                "continual",
                "deploy",
                "encoder",
                "evaluate_model",
                "full",
                "ingest",
                "pretrain",
                "retrain",
                "rollout",
                "sft",
            ],
        ),
        ("mm1 serve --store pip", ["pip.txt", "pipeline.py"]),
    ],
)
def test_candidates_are_listed(terminal: Terminal, line: str, listing: list[str]) -> None:
    assert sorted(terminal.complete(line)[1][: len(listing)]) == sorted(listing)


def test_the_script_holds_nothing_of_the_environment(terminal: Terminal) -> None:
    script = terminal.answer(b"cat complete.bash; echo '<'end'>'\n", "<end>")
    assert "complete -o nosort -F _mm1_completion mm1" in script and "a-secret" not in script


def test_candidates_for_a_workflow_are_files_that_may_be_one(tmp_path: Path) -> None:
    for name in ("a.py", "a.yaml", "a.txt", ".hidden.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "alpha").mkdir()
    assert [item.value for item in complete_workflow(f"{tmp_path}/a")] == [
        f"{tmp_path}/{name}" for name in ("a.py", "a.yaml", "alpha/")
    ]
    assert [item.value for item in complete_path(f"{tmp_path}/.h")] == [f"{tmp_path}/.hidden.py"]
    assert complete_workflow(f"{tmp_path}/nowhere/x") == []


def test_a_completion_that_fails_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def commands(argv: Sequence[str]) -> type:
        print("something that a module prints")
        raise RuntimeError("no completion")

    for line in ("mm1 r", "mm1", "", "mm1 'r"):
        monkeypatch.setenv("COMPLETION_LINE", line)
        completion.respond(commands)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "words", "cut"),
    [
        ("mm1 run ", ["mm1", "run", ""], 0),
        ("mm1  run x", ["mm1", "run", "x"], 0),
        (r"mm1 a\ b", ["mm1", "a b"], 0),
        ("mm1 'a b' \"c'd", ["mm1", "a b", "c'd"], 0),
        ("mm1 mm1:pre", ["mm1", "mm1:pre"], 4),
        ("mm1 'mm1:pre", ["mm1", "mm1:pre"], 0),
        ("mm1 '' x", ["mm1", "", "x"], 0),
        ("mm1 x\\", ["mm1", "x"], 0),
        ("", [""], 0),
    ],
)
def test_a_line_is_split_as_the_shell_does(line: str, words: list[str], cut: int) -> None:
    assert completion.split(line, "=:") == (words, cut)


@pytest.mark.parametrize("target", [*(f"mm1:{name}" for name in pipelines.names()), str(ROOT / "examples/own_pipeline.py")])
def test_parameters_are_those_of_the_built_workflow(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    assert set(parameter_names(target)) == set(read_workflow(load(target).document).parameters)


@pytest.mark.parametrize("path", sorted((ROOT / "workflows/compiled/argo").glob("*.yaml")), ids=lambda path: path.stem)
def test_parameters_of_a_yaml_file(path: Path) -> None:
    assert set(parameter_names(str(path))) == set(read_workflow(load(str(path)).document).parameters)


def test_parameters_are_read_without_running_the_file(tmp_path: Path) -> None:
    (tmp_path / "picked.py").write_text(WORKFLOW)
    (tmp_path / "_own.py").write_text("from hera.workflows import Parameter\nWIDTH = Parameter(name='width')\n")
    (tmp_path / "local.py").write_text("from _own import WIDTH\nimport os\nos._exit(3)\nWorkflow(arguments=(WIDTH,))\n")
    assert parameter_names(str(tmp_path / "picked.py")) == ["least", "nodes", "processes", "pool", "seed", "last", "store"]
    assert parameter_names(str(tmp_path / "local.py")) == ["width", "store"]


def test_the_gpus_are_those_of_the_forecast() -> None:
    assert tuple(speed.GPUS) == plan.GPUS
