"""The local runner gives workflows the meaning that Argo gives them, by the table that the cluster tests check with Argo."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from mm1.store.open import open_store
from mm1_workflows.argo import parameters
from mm1_workflows.display.screen import PlainDisplay
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.runner import Runner, RunResult
from mm1_workflows.rules.reading import read_workflow
from tests.support.argo_meaning import CASES, FAILED, OUT, Case, shell, workflow

pytestmark = pytest.mark.integration


def run(case: Case, place: Path) -> RunResult:
    graph = read_workflow(case.document)
    store = open_store(str(place / "store"))
    with RunFolder(place / "runs", "r").locked() as folder:
        values = parameters.check(graph, {})
        folder.open_run(graph.name, values, "mm1 run x")
        return Runner(graph, values, folder, store, PlainDisplay(Console(quiet=True)), cores=8).run()


@pytest.mark.parametrize("name", CASES)
def test_tasks_end_as_in_argo(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    found = {item.task.name: item for item in run(case, tmp_path).instances}
    assert {name: found[name].state.value for name in case.ends} == case.ends
    assert {name: found[name].attempts for name in case.attempts} == case.attempts
    assert {name: found[name].outputs for name in case.outputs} == case.outputs


def test_no_more_tasks_run_at_once_than_parallelism_allows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    note = shell("note", f"echo start >> {log}; sleep 0.05; echo end >> {log}")
    tasks = [{"name": "each", "template": "note", "withItems": list("abcd")}]
    assert run(Case(workflow("few", [note], tasks, parallelism=1), {}), tmp_path).exit_code == 0
    assert log.read_text().split() == ["start", "end"] * 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (f"printf '\\377a' > {OUT}-o", "output o is not UTF-8 text (byte 0)"),
        ("true", "did not write its output o"),
        (f"mkdir {OUT}-o", "output o cannot be read"),
    ],
)
def test_a_bad_output_fails_its_own_task(script: str, message: str, tmp_path: Path) -> None:
    case = Case(
        workflow("bad", [shell("bad", script, outputs=("o",)), shell("good", "true")],
                 [{"name": "bad", "template": "bad"}, {"name": "good", "template": "good"}]), {},
    )  # fmt: skip
    bad, good = run(case, tmp_path).instances
    assert (bad.state.value, good.state.value) == (FAILED, "done")
    assert message in bad.ending.message
