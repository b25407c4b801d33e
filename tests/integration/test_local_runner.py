"""The local runner with real processes: order, side by side, conditions, loops, retries, exit task, signals, cache."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hera.workflows import Container, Parameter, Workflow
from hera.workflows.models import ValueFrom
from rich.console import Console

from mm1.errors import ConfigurationError, Outcome
from mm1.lineage.records import read_run
from mm1.store.open import open_store
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import Document
from mm1_workflows.display.screen import PlainDisplay
from mm1_workflows.display.view import State
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.runner import Runner, RunResult
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_workflows import build, events, toy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path


def run(document: Document, place: Path, *, name: str = "r", cores: int = 2, use_cache: bool = True, **given: str) -> RunResult:
    workflow = read_workflow(document)
    store = open_store(str(place / "store"))
    values = parameters.check(workflow, {"store": store.uri, **given})
    with RunFolder(place / "runs", name).locked() as folder:
        folder.open_run(workflow.name, values, "mm1 run x")
        return Runner(
            workflow, values, folder, store, PlainDisplay(Console(quiet=True)), cores=cores, use_cache=use_cache
        ).run()


def states(result: RunResult) -> dict[str, State]:
    return {item.label: item.state for item in result.instances}


def outputs(result: RunResult) -> dict[str, dict[str, str]]:
    return {item.label: item.outputs for item in result.instances}


def test_tasks_run_in_order_and_hand_over_outputs(place: Path) -> None:
    def body(w: Workflow) -> None:
        first = toy("first", say=w.get_parameter("word"), folder=str(place / "notes"))
        second = toy("second", say=first.get_parameter("text"), then=" world", folder=str(place / "notes"))
        first >> second

    result = run(build(body, word="hello"), place, word="good {{item}} morning")
    assert result.status == "Succeeded" and result.exit_code == 0
    assert outputs(result)["second"]["text"] == "good {{item}} morning world"  # values are not read as references
    assert [(kind, task) for kind, task, _ in events(place / "notes")] == [
        ("start", "first"),
        ("end", "first"),
        ("start", "second"),
        ("end", "second"),
    ]
    assert (place / "runs/r/second/summary.md").read_text() == "# good {{item}} morning\n"
    assert "output text" in (place / "runs/r/second/log.txt").read_text()


def test_independent_tasks_run_side_by_side_within_the_cores(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        for name in ("a", "b", "c"):
            toy(name, say=name, company=2, folder=notes)

    result = run(build(body), place, cores=2)
    assert result.exit_code == 0
    *_, last = sorted(item.started for item in result.instances)
    assert last >= min(item.ended for item in result.instances)


def test_a_false_condition_skips_the_task_and_what_follows(place: Path) -> None:
    def body(w: Workflow) -> None:
        ask = toy("ask", say=w.get_parameter("answer"))
        when = "{{tasks.ask.outputs.parameters.text}} == yes"
        act = toy("act", say="acted", when=when)
        after = toy("after", say=act.get_parameter("text"), when=when)
        free = toy("free", say="free")
        ask >> act >> after
        ask >> after
        ask >> free

    document = build(body, answer="no")
    no = run(document, place)
    assert no.exit_code == 0
    assert states(no) == {"ask": State.DONE, "act": State.SKIPPED, "after": State.SKIPPED, "free": State.DONE}
    yes = run(document, place, name="r2", answer="yes")
    assert outputs(yes)["after"]["text"] == "acted"


def test_a_loop_runs_once_per_item_and_hands_over_a_list(place: Path) -> None:
    def body(w: Workflow) -> None:
        words = toy("words", say="red file:///tmp/x")
        each = toy("each", say="{{item}}", then="!", with_param=words.get_parameter("items"))
        whole = toy("whole", say=each.get_parameter("text"))
        words >> each >> whole

    result = run(build(body), place)
    assert result.exit_code == 0
    assert outputs(result)["whole"]["text"] == '["red!","file:///tmp/x!"]'
    assert sorted(path.name for path in (place / "runs/r").iterdir() if path.name.startswith("each")) == ["each-0", "each-1"]
    records = sorted(path.name for path in (place / "store/runs/r").iterdir())
    assert len(records) == 4 and not any("/" in name for name in records)


def test_a_loop_over_something_else_fails_that_task(place: Path) -> None:
    def body(w: Workflow) -> None:
        words = toy("words", say="red")
        each = toy("each", say="{{item}}", with_param=words.get_parameter("text"))
        words >> each

    result = run(build(body), place)
    assert result.exit_code == Outcome.CONFIGURATION
    assert result.failed and "expected a JSON list of strings" in result.failed.ending.message


def test_a_class_that_may_pass_is_retried_and_others_are_not(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        toy("shaky", say="x", fail=84, fail_times=2, folder=notes)

    result = run(build(body), place)
    assert result.exit_code == 0
    assert result.instances[0].attempts == 3
    assert (place / "runs/r/shaky/log.txt").read_text().count("--- attempt") == 2

    def wrong(w: Workflow) -> None:
        toy("wrong", say="x", fail=80, fail_times=1, folder=notes)

    result = run(build(wrong), place, name="r2")
    assert result.exit_code == Outcome.CONFIGURATION
    assert result.instances[0].attempts == 1

    def hopeless(w: Workflow) -> None:
        toy("hopeless", say="x", fail=85, folder=notes)

    result = run(build(hopeless), place, name="r3")
    assert result.exit_code == Outcome.HARDWARE
    assert result.instances[0].attempts == 3  # the first one and the limit of two retries


def test_after_a_failure_nothing_new_starts_and_the_exit_task_still_runs(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        bad = toy("bad", fail=81, folder=notes)
        slow = toy("slow", say="kept", outlives="bad", folder=notes)
        later = toy("later", say=slow.get_parameter("text"), folder=notes)
        bad >> later
        slow >> later

    result = run(build(body, exit_task=True, folder=notes), place)
    assert result.status == "Failed" and result.exit_code == Outcome.DATA
    assert result.failed and result.failed.label == "bad" and result.failed.ending.message == "told to fail at attempt 1"
    assert states(result) == {"bad": State.FAILED, "slow": State.DONE, "later": State.OMITTED, "finish": State.DONE}
    assert outputs(result)["finish"]["text"] == "Failed"


def test_without_fail_fast_only_what_depends_on_a_failure_is_omitted(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        words = toy("words", say="81 0 00")
        each = toy("each", say="{{item}}", fail="{{item}}", folder=notes, with_param=words.get_parameter("items"))
        after = toy("after", say=each.get_parameter("text"))
        slow = toy("slow", say="kept", outlives="each-81", folder=notes)
        last = toy("last", say=slow.get_parameter("text"))
        words >> each >> after
        slow >> last

    result = run(build(body, exit_task=True, fail_fast=False), place)
    assert result.status == "Failed" and result.exit_code == Outcome.DATA
    assert states(result) == {
        "words": State.DONE,
        "each(0:81)": State.FAILED,
        "each(1:0)": State.DONE,
        "each(2:00)": State.DONE,
        "after": State.OMITTED,
        "slow": State.DONE,
        "last": State.DONE,
        "finish": State.DONE,
    }
    assert outputs(result)["finish"]["text"] == "Failed"


def test_a_loop_over_nothing_gives_an_empty_list(place: Path) -> None:
    def body(w: Workflow) -> None:
        words = toy("words", say="")
        each = toy("each", say="{{item}}", with_param=words.get_parameter("items"))
        whole = toy("whole", say=each.get_parameter("text"))
        words >> each >> whole

    result = run(build(body), place)
    assert result.exit_code == 0 and outputs(result)["whole"]["text"] == "[]"
    assert set(states(result)) == {"words", "whole"}


def test_the_exit_task_sees_success_and_its_own_failure_counts(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("fine", say="x")

    document = build(body, exit_task=True)
    assert outputs(run(document, place))["finish"]["text"] == "Succeeded"
    exit_dag = next(body for body in document["spec"]["templates"] if body["name"] == "at-exit")
    exit_dag["dag"]["tasks"][0]["arguments"]["parameters"].append({"name": "fail", "value": "80"})
    result = run(document, place, name="r2")
    assert result.status == "Failed" and result.exit_code == Outcome.CONFIGURATION


def test_the_same_run_continues_with_what_is_finished(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        first = toy("first", say="a", folder=notes)
        second = toy("second", say=first.get_parameter("text"), then="b", fail=w.get_parameter("fail"), folder=notes)
        first >> second

    document = build(body, fail="80")
    assert run(document, place).exit_code == Outcome.CONFIGURATION
    again = run(document, place, fail="0")
    assert again.exit_code == 0
    assert states(again) == {"first": State.CACHED, "second": State.DONE}
    assert (place / "runs/r/first/summary.md").is_file()
    anew = run(document, place, fail="0", use_cache=False)
    assert states(anew) == {"first": State.DONE, "second": State.DONE}


def looping(w: Workflow) -> None:
    words = toy("words", say=w.get_parameter("words"))
    each = toy("each", say="{{item}}", fail="{{item}}", with_param=words.get_parameter("items"))
    last = toy("last", say="x", fail=w.get_parameter("fail"), when="'{{tasks.words.outputs.parameters.text}}' != '0'")
    words >> each >> last
    words >> last


def test_the_state_of_a_run_is_that_of_its_latest_attempt(place: Path) -> None:
    document = build(looping, words="0", fail="0")
    store = open_store(str(place / "store"))
    assert run(document, place, words="81").exit_code == Outcome.DATA  # an item fails
    assert read_run(store, "r").failures == {"each-81": "data"}
    assert run(document, place, words="0 00").exit_code == 0  # other items succeed
    attempt = read_run(store, "r")
    assert attempt.state == "done" and set(attempt.tasks) == {"words", "each-0", "each-00", "last"}
    assert run(document, place, words="0 00", fail="80").exit_code == Outcome.CONFIGURATION  # the task after the loop fails
    assert read_run(store, "r").failures == {"last": "configuration"}
    assert run(document, place, words="0", fail="80").exit_code == 0  # the condition skips it
    attempt = read_run(store, "r")
    assert attempt.state == "done" and set(attempt.tasks) == {"words", "each-0"}
    assert run(document, place, words="81 0").exit_code == Outcome.DATA  # an item that comes back counts again
    assert read_run(store, "r").state == "failed"


def test_records_of_tasks_that_an_attempt_has_not_reached_still_count(place: Path) -> None:
    document = build(looping, words="0", fail="0")
    store = open_store(str(place / "store"))
    assert run(document, place, words="0 1 81").exit_code != 0
    before = read_run(store, "r")
    result = run(document, place, words="x" * 200_000)  # its first task cannot be started: the argument is too long
    assert result.status == "Failed"
    assert read_run(store, "r").failures == before.failures


def test_tasks_that_the_file_no_longer_has_do_not_count(place: Path) -> None:
    store = open_store(str(place / "store"))
    assert run(build(lambda w: toy("old", fail=81)), place).exit_code == Outcome.DATA
    assert run(build(lambda w: toy("new")), place).exit_code == 0
    assert read_run(store, "r").state == "done" and set(read_run(store, "r").tasks) == {"new"}


def test_templates_by_hand_run_too(place: Path) -> None:
    def body(w: Workflow) -> None:
        shout = Container(
            name="shout",
            command=["sh", "-c"],
            args=['printf %s "$WORD {{inputs.parameters.word}}" > /tmp/shout/out.txt'],
            env={"WORD": "loud"},
            inputs=[Parameter(name="word")],
            outputs=[Parameter(name="out", value_from=ValueFrom(path="/tmp/shout/out.txt"))],
        )(name="shout", arguments={"word": "and clear"})
        silent = Container(name="silent", command=["no-such-command-here"])(name="silent")
        shout >> silent

    result = run(build(body), place)
    assert outputs(result)["shout"]["out"] == "loud and clear"
    assert result.failed and result.failed.label == "silent"
    assert result.exit_code == Outcome.CONFIGURATION and "no-such-command-here" in result.failed.ending.message


def test_a_task_that_saves_its_state_at_its_limit_is_preempted_and_tried_again(place: Path) -> None:
    script = "trap 'exit 87' TERM; test -e twice && exit 0; touch twice; for i in $(seq 200); do sleep 0.1; done"

    def body(w: Workflow) -> None:
        Container(name="save", command=["bash", "-c"], args=[f"cd {place}; {script}"], active_deadline_seconds=1)(name="save")

    result = run(build(body), place)
    assert not result.failed and result.exit_code == 0
    assert [item.attempts for item in result.instances] == [2]


def test_a_task_that_hangs_is_ended_at_its_limit(place: Path) -> None:
    def body(w: Workflow) -> None:
        Container(name="hang", command=["sleep"], args=["60"], active_deadline_seconds=1)(name="hang")

    started = time.monotonic()
    result = run(build(body), place)
    assert result.failed and "time limit of 1 s" in result.failed.ending.message
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("code", "attempts"), [(87, 3), (88, 1), (80, 1), (0, 1)])
def test_a_task_stopped_at_its_limit_has_the_class_of_its_exit_code(place: Path, code: int, attempts: int) -> None:
    script = f"trap 'exit {code}' TERM; for i in $(seq 200); do sleep 0.1; done"

    def body(w: Workflow) -> None:
        Container(name="late", command=["bash", "-c"], args=[script], active_deadline_seconds=1)(name="late")

    result = run(build(body), place)
    assert result.failed and result.failed.attempts == attempts
    assert result.exit_code == (code or Outcome.UNHANDLED), "a task that succeeds after its limit has failed, as in Argo"
    assert result.failed.ending.message.startswith("exceeded its time limit of 1 s")


def test_a_task_that_ends_slowly_does_not_hold_up_the_others(place: Path) -> None:
    def body(w: Workflow) -> None:
        deaf = "trap '' TERM; for i in $(seq 200); do sleep 0.1; done"
        grace = json.dumps({"terminationGracePeriodSeconds": 3})
        Container(name="deaf", command=["bash", "-c"], args=[deaf], active_deadline_seconds=1, pod_spec_patch=grace)(
            name="deaf"
        )
        first = Container(name="first", command=["sleep"], args=["1.5"])(name="first")
        first >> Container(name="second", command=["true"])(name="second")

    result = run(build(body), place)
    assert result.failed and result.failed.label == "deaf" and "killed by SIGKILL" in result.failed.ending.message
    ended = {item.label: item.ended for item in result.instances}
    assert ended["second"] < ended["deaf"]


def test_a_run_at_its_limit_ends_as_in_argo(place: Path) -> None:
    def body(w: Workflow) -> None:
        w.active_deadline_seconds = 1
        saves = "trap 'exit 87' TERM; for i in $(seq 200); do sleep 0.1; done"
        first = Container(name="first", command=["bash", "-c"], args=[saves])(name="first")
        first >> Container(name="second", command=["true"])(name="second")

    result = run(build(body), place)
    assert result.status == "Failed" and result.exit_code == Outcome.PREEMPTED
    assert result.failed and result.failed.attempts == 1, "a run that is over is not tried again"
    assert "the run exceeded its time limit of 1 s" in result.failed.ending.message
    assert [item.state.value for item in result.instances] == ["failed", "omitted"]


def test_a_missing_output_is_a_failure(place: Path) -> None:
    def body(w: Workflow) -> None:
        output = Parameter(name="out", value_from=ValueFrom(path="/tmp/never/out"))
        Container(name="forgets", command=["true"], outputs=[output])(name="forgets")

    result = run(build(body), place)
    assert result.failed and "did not write its output" in result.failed.ending.message


# -- the command ------------------------------------------------------------------------------------------------------


def workflow_file(place: Path, document: Document) -> Path:
    path = place / "toy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def command(place: Path, file: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "mm1_workflows.cli", "run", str(file), "--run", "r"]
    return [*words, "--store", str(place / "store"), "--folder", str(place / "runs"), *more]


def test_interrupt_stops_in_order_and_the_command_that_is_shown_continues(place: Path) -> None:
    notes = str(place / "notes")

    def body(w: Workflow) -> None:
        first = toy("first", say="a", folder=notes)
        second = toy("second", say=first.get_parameter("text"), seconds=w.get_parameter("seconds"), folder=notes)
        first >> second

    file = workflow_file(place, build(body, seconds="0.1"))
    words = command(place, file, "-p", "seconds=30")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    wait_until((place / "store/runs/r/second.json").is_file, "the start of the task")
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"mm1 run {file} --run r -p seconds=30 --store {place / 'store'} --folder {place / 'runs'}" in out
    assert "stopped after" in out
    second = (place / "store/runs/r/second.json").read_text()
    assert '"state": "failed"' in second and '"outcome": 87' in second  # the step ended by itself and said so
    again = subprocess.run(command(place, file), capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 2 steps cached" in again.stdout


def test_a_second_run_in_the_same_folder_is_refused(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("long", seconds=20)

    file = workflow_file(place, build(body))
    first = subprocess.Popen(command(place, file), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until((place / "store/runs/r/long.json").is_file, "the start of the task")
        second = subprocess.run(command(place, file), capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == Outcome.CONFIGURATION
        assert "is in use" in second.stderr and str(first.pid) in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=20) == Outcome.PREEMPTED


def test_tasks_of_a_killed_runner_end_too(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("long", seconds=w.get_parameter("seconds"))

    file = workflow_file(place, build(body, seconds="0.1"))
    first = subprocess.Popen(command(place, file, "-p", "seconds=40"), stdout=subprocess.DEVNULL, start_new_session=True)
    wait_until((place / "store/runs/r/long.json").is_file, "the start of the task")
    first.kill()
    first.wait()
    again = subprocess.run(command(place, file), capture_output=True, text=True, timeout=30, check=False)
    assert again.returncode == 0, again.stdout + again.stderr


def test_wrong_parameters_are_refused_before_anything_starts(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("one", say=w.get_parameter("word"), count=w.get_parameter("count"))

    file = workflow_file(place, build(body, word="x", count="3"))
    done = subprocess.run(command(place, file, "-p", "wrod=y", "-p", "count=many"), capture_output=True, text=True, check=False)
    assert done.returncode == Outcome.CONFIGURATION
    assert "did you mean 'word'?" in done.stderr and "count: expected an integer, got 'many'" in done.stderr
    assert f"all parameters: mm1 run {file} --list" in done.stderr
    assert len(done.stderr.splitlines()) == 4  # nothing scrolls away
    assert not (place / "runs").exists() and not (place / "store").exists()


def test_a_folder_of_another_version_or_workflow_is_refused(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("one", say="x")

    assert run(build(body), place).exit_code == 0
    with pytest.raises(ConfigurationError, match="belongs to workflow toy"):
        run(build(body, name="other"), place)
    (place / "runs/r/run.json").write_text('{"schema_version": 0}')
    with pytest.raises(ConfigurationError, match="another version"):
        run(build(body), place)


def test_a_failure_is_told_in_the_steps_own_words(place: Path) -> None:
    def body(w: Workflow) -> None:
        toy("bad", fail=81)

    file = workflow_file(place, build(body))
    done = subprocess.run(command(place, file), capture_output=True, text=True, check=False)
    assert done.returncode == Outcome.DATA
    for words in ("bad (data, exit code 81)", "told to fail at attempt 1", "r/bad/log.txt", f"mm1 run {file} --run r"):
        assert words in done.stdout
