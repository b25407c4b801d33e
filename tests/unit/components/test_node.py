"""A node of a training run: exit code, termination log and result for each way its ranks end (with a stand-in for torchrun)."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mm1.errors import Ending, Outcome
from mm1.monitoring.logs import LogSettings
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks import node
from mm1_components.ranks.launcher import result_key

LAUNCHER = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).parent
(pathlib.Path(__file__).parent / "argv.json").write_text(json.dumps(sys.argv[1:]))
print("a line of rank 0", flush=True)
"""
RESULT = TrainResult(
    manifest="m", steps=4, resumed_from=0, seconds=1.0, tokens=8, tokens_per_s=8.0, padding_share=0.0, losses={}, facts={}
)
Run = Callable[..., tuple[int, Ending | None]]
TEXT = LogSettings()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a node whose launcher does what a piece of Python says; its exit code and what is in the termination log."""
    launcher = tmp_path / "path" / "torch" / "distributed"
    launcher.mkdir(parents=True)
    for package in (launcher, launcher.parent):
        (package / "__init__.py").touch()
    log = tmp_path / "termination-log"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setattr(node, "TERMINATION_LOG", log)
    former = signal.getsignal(signal.SIGTERM)

    def run(does: str, *, index: str = "0", nodes: int = 1, logs: LogSettings = TEXT) -> tuple[int, Ending | None]:
        (launcher / "run.py").write_text(LAUNCHER + does)
        log.write_text("")
        store = str(tmp_path / "store")
        job = TrainJob(config=registry.get("mm1_tiny"), data="d", store=store, key="work", folder="", logs=logs)
        options = {"nodes": nodes, "processes": 2, "master": "localhost:29500", "grace-s": 5, "job": job.model_dump_json()}
        monkeypatch.setattr(sys, "argv", ["node", *(f"--{name}={value}" for name, value in options.items())])
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
        with pytest.raises(SystemExit) as ended:
            node.main()
        return int(str(ended.value.code)), Ending.from_json(log.read_text())

    yield run
    signal.signal(signal.SIGTERM, former)
    logging.captureWarnings(False)


def leave(name: str, text: str) -> str:
    """The launcher leaves a file in the job's folder."""
    return f"(folder / {name!r}).write_text({text!r})\n"


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome], ids=lambda outcome: outcome.name.lower())
def test_each_class_is_the_exit_code_and_in_the_termination_log(run: Run, outcome: Outcome) -> None:
    report = Ending(outcome=outcome, message="told to fail", where="rank 1").to_json()
    code, ending = run(leave("error-rank1.json", report) + "sys.exit(1)")
    assert code == int(outcome)
    assert ending is not None and ending.outcome is outcome and "told to fail" in ending.message


def test_ranks_that_die_without_a_report_may_be_tried_again(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    code, ending = run("print('Segmentation fault', file=sys.stderr)\nsys.exit(1)")
    assert code == Outcome.NETWORK and ending is not None and "exited without reporting an error" in ending.message
    assert "Segmentation fault" in capfd.readouterr().err


def test_node_0_leaves_the_result_in_the_store(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, ending = run(leave("result.json", RESULT.model_dump_json()))
    assert (code, ending) == (0, None)
    assert LocalStore(tmp_path / "store").read_json(result_key("work")) == RESULT.model_dump(mode="json")
    assert "a line of rank 0" in capfd.readouterr().out, "the supervisor reads it"


def test_what_ranks_print_is_json_if_the_job_says_so(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    progress = '{"mm1": "progress", "step": 1, "step_s": 0.1}'
    does = f"print({progress!r}, flush=True)\nprint('Segmentation fault', file=sys.stderr)\nsys.exit(1)"
    run(does, logs=LogSettings(format="json", run="run-1", task="pretrain", launch=2))
    captured = capfd.readouterr()
    first, second = captured.out.splitlines()
    assert json.loads(first)["message"] == "a line of rank 0" and json.loads(first)["launch"] == 2
    assert second == progress, "the supervisor reads it"
    assert json.loads(captured.err)["message"] == "Segmentation fault"


def test_other_nodes_join_the_first_and_leave_nothing(run: Run, tmp_path: Path) -> None:
    assert run("", index="1", nodes=2) == (0, None)
    assert not (tmp_path / "store").exists()
    argv = json.loads((tmp_path / "path/torch/distributed/argv.json").read_text())
    assert argv[:8] == ["--nnodes", "2", "--node-rank", "1", "--master-addr", "localhost", "--master-port", "29500"]


def test_sigterm_is_passed_on_and_ends_as_preempted(run: Run) -> None:
    report = Ending(outcome=Outcome.PREEMPTED, message="saved step 8").to_json()
    saves = f"signal.signal(signal.SIGTERM, lambda *_: ({leave('error-rank0.json', report).strip()}, os._exit(1)))\n"
    code, ending = run(saves + "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(30)")
    assert code == Outcome.PREEMPTED and ending is not None and "saved step 8" in ending.message


def test_a_number_of_a_node_that_is_none_is_named(run: Run) -> None:
    code, ending = run("", index="first")
    assert code == Outcome.CONFIGURATION and ending is not None and "expected an integer, got 'first'" in ending.message


def test_a_result_that_is_none_names_the_missing_field(run: Run) -> None:
    code, ending = run(leave("result.json", "{}"))
    assert code == Outcome.CONFIGURATION and ending is not None and "manifest" in ending.message
