"""The wrapper: cache, outputs, records, exit codes, help; on a small step of its own, in this process and in a child."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError, DataError, NetworkError, Outcome
from mm1.manifests import Deployment, GateDecision, publish
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1.store.scratch import killed
from mm1_components import sft
from mm1_components.ranks.stage_checks import resolve_run
from mm1_components.wrapper import records
from mm1_components.wrapper.arguments import ManifestUri, build_parser, input_values
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import execute
from mm1_components.wrapper.sources import Source
from tests.support.waiting import wait_until

CALLS = []


class Inputs(BaseModel):
    size: int = Field(3, description="Number of things, in dozens.")
    folder: Source = Field("", description="Raw files.")
    fail: str = Field("", description="How to fail.")
    parent: ManifestUri = Field("", description="What came before.")


class Outputs(BaseModel):
    manifest: ManifestUri = Field(description="What was made.")
    deployed: bool = Field(description="A fact.")


def run(inputs: Inputs, context: Context) -> Outputs:
    CALLS.append(inputs)
    errors = {
        "data": DataError("shard 7 is damaged"),
        "disk": OSError(28, "No space left on device", "/x"),
        "bug": KeyError("x"),
    }
    if inputs.fail in errors:
        raise errors[inputs.fail]
    if inputs.fail == "artifact":
        context.artifact("summary.txt")
    context.progress(1, 2)
    context.artifact("summary.md").write_text("made\n")
    context.note(tokens_per_s=5)
    return Outputs(manifest=context.publish(Deployment(deployed=True, reason=str(inputs.size))), deployed=True)


STEP = Step(name="sample", inputs=Inputs, outputs=Outputs, run=run, summary="A sample.", artifacts=("summary.md",))


@pytest.fixture
def start(tmp_path):
    CALLS.clear()

    def start(*argv, step=STEP, store="store", run="r1"):
        arguments = build_parser(step).parse_args(["--store", str(tmp_path / store), "--run", run, *map(str, argv)])
        return execute(step, arguments)

    return start


def record(tmp_path, store="store", run="r1"):
    return open_store(str(tmp_path / store)).read_json(f"runs/{run}/sample.json")


def test_outputs_artifacts_progress_and_record(start, tmp_path):
    out = tmp_path / "out"
    code = start("--out.manifest", out / "m", "--out.deployed", out / "d", "--artifact.summary.md", out / "s.md",
                 "--progress", out / "p")  # fmt: skip
    assert code is Outcome.DONE
    assert (out / "d").read_text() == "true" and (out / "s.md").read_text() == "made\n" and (out / "p").read_text() == "1/2\n"
    found = record(tmp_path)
    assert found["outputs"]["manifest"] == (out / "m").read_text()
    assert found["state"] == "done" and found["facts"] == {"tokens_per_s": 5} and not found["cache_hit"]


def test_second_time_is_a_hit_with_the_same_outputs_and_artifacts(start, tmp_path):
    start("--size", 4)
    first = record(tmp_path)["outputs"]
    start("--size", 4, "--artifact.summary.md", tmp_path / "again.md", run="r2")
    second = record(tmp_path, run="r2")
    assert len(CALLS) == 1 and second["cache_hit"] and second["outputs"] == first
    assert (tmp_path / "again.md").read_text() == "made\n"


def test_outputs_that_are_no_part_of_the_result_are_those_of_this_execution(start, tmp_path):
    step = dataclasses.replace(STEP, recalled=lambda inputs, outputs: outputs | {"deployed": False})
    start("--size", 4, step=step)
    assert record(tmp_path)["outputs"]["deployed"] is True
    start("--size", 4, "--out.deployed", tmp_path / "deployed", step=step, run="r2")
    assert len(CALLS) == 1 and (tmp_path / "deployed").read_text() == "false"
    assert record(tmp_path, run="r2")["outputs"]["deployed"] is False


def test_what_changes_the_key(start, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a").write_text("1")
    for argv in (["--size", 4], ["--size", 5], ["--folder", folder]):
        start(*argv)
    (folder / "a").write_text("22")
    start("--folder", folder)
    start("--folder", folder)
    assert len(CALLS) == 4
    start("--folder", folder, "--no-cache")
    assert len(CALLS) == 5


def test_the_same_work_in_another_store_has_the_same_key(start, tmp_path):
    parent = [open_store(str(tmp_path / name)).uri + "/manifests/" + "a" * 64 + ".json" for name in ("store", "elsewhere")]
    start("--parent", parent[0])
    start("--parent", parent[1], store="elsewhere")
    assert record(tmp_path)["cache_key"] == record(tmp_path, "elsewhere")["cache_key"]


def test_a_hit_whose_manifest_was_collected_is_no_hit(start, tmp_path):
    start()
    store = open_store(str(tmp_path / "store"))
    for key in list(store.list("manifests/")):
        store.delete(key)
    start()
    assert len(CALLS) == 2


@pytest.mark.parametrize(
    ("argv", "outcome", "words"),
    [
        (["--fail", "data"], Outcome.DATA, ["shard 7"]),
        (["--fail", "disk"], Outcome.NETWORK, ["no space left", "/x"]),
        (["--fail", "bug"], Outcome.UNHANDLED, ["KeyError"]),
        (["--fail", "artifact"], Outcome.CONFIGURATION, ["summary.txt", "not declared", "`artifacts`"]),
        (["--size", "many"], Outcome.CONFIGURATION, ["size", "integer", "many"]),
        (["--folder", "/not/there"], Outcome.CONFIGURATION, ["folder", "/not/there"]),
    ],
)
def test_failures_end_in_their_class_and_in_the_record(start, tmp_path, argv, outcome, words):
    assert start(*argv) is outcome
    found = record(tmp_path)
    assert found["outcome"] == int(outcome) and found["state"] == "failed"
    assert all(word in found["message"] for word in words)


def test_attempts_are_counted_and_a_final_outcome_is_repeated_at_once(start, tmp_path):
    start("--fail", "data")
    start("--fail", "data")
    assert record(tmp_path)["attempts"] == 2
    assert start("--fail", "data", "--once") is Outcome.DATA
    assert len(CALLS) == 2


def test_a_task_that_runs_again_after_success_starts_at_the_first_attempt(start, tmp_path):
    start("--fail", "data")
    start()
    assert record(tmp_path)["attempts"] == 2
    start()
    assert record(tmp_path)["attempts"] == 1


def test_unwritable_store_is_a_configuration_error(start, tmp_path):
    (tmp_path / "file").write_text("")
    assert start(store="file/store") is Outcome.CONFIGURATION


def test_a_store_that_fails_at_the_last_record_is_retried(start, tmp_path, monkeypatch):
    write = LocalStore.write

    def full(self, key, data):
        if key.startswith("runs/") and b'"running"' not in data:
            raise OSError(28, "No space left on device", str(tmp_path / "store" / key))
        return write(self, key, data)

    monkeypatch.setattr(LocalStore, "write", full)
    assert start() is Outcome.NETWORK and Outcome.NETWORK.retried
    assert record(tmp_path)["state"] == "running"
    monkeypatch.undo()
    assert start() is Outcome.DONE
    assert record(tmp_path)["cache_hit"] and len(CALLS) == 1


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "", "..", "a/b", "a\n", "x" * 64])
def test_a_run_is_a_name_and_no_path(start, tmp_path, name):
    assert start(run=name) is Outcome.CONFIGURATION
    assert not CALLS and list(tmp_path.rglob("*.json")) == []


def test_overrides_of_the_command_line_keep_their_quotes():
    given = ["--data=x", "--init=x", "--recipe=mm1_tiny_sft", "--overrides=train.steps=7", "--set=optim.lr=1e-3"]
    arguments = build_parser(sft.STEP).parse_args([*given, "--set", 'train.frozen=["connector", "it\'s"]'])
    config = resolve_run("mm1_tiny_sft", input_values(sft.STEP, arguments)["overrides"], 0)
    assert (config.train.steps, config.train.frozen, config.optim.lr) == (7, ("connector", "it's"), 1e-3)


def test_help_explains_every_input():
    text = " ".join(build_parser(STEP).format_help().split())
    assert "Number of things, in dozens. [integer; default: 3]" in text
    assert "[path|s3://bucket/prefix|world:<seed>; default: empty]" in text


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.execute import main
from tests.unit.components.test_step import Inputs, Outputs
def run(inputs, context):
    Path(sys.argv[-1]).write_text(str(context.work))
    try:
        time.sleep(60)
    finally:  # at a deadline, both the kubelet and Argo send SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
main(Step(name="sample", inputs=Inputs, outputs=Outputs, run=run, summary=""), sys.argv[1:-1])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_orderly_with_87_and_no_scratch_left(tmp_path, number):
    sign = tmp_path / "running"
    roots = [str(Path(__file__).parents[3])] + [path for path in sys.path if path]
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "--store", str(tmp_path / "store"), "--run", "r1", str(sign)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
    )
    wait_until(lambda: sign.exists() and sign.read_text(), "the start of the step")
    child.send_signal(number)
    assert child.wait(10) == Outcome.PREEMPTED
    assert "run the same command again" in record(tmp_path)["message"]
    assert not Path(sign.read_text()).exists()


class FileInputs(BaseModel):
    """Inputs with a file whose content the cache would not see."""

    folder: Path | None = None


def test_an_input_of_type_path_is_refused():
    with pytest.raises(ConfigurationError, match=r"input folder: .*LocalFiles"):
        Step(name="sample", inputs=FileInputs, outputs=Outputs, run=run, summary="")


def test_help_names_the_module_that_can_be_started():
    assert build_parser(STEP).prog == f"python -m {__name__}"


ODD_ENTRIES = [
    "", "{", "[]", "{}", "null", "5", "[" * 5000,
    {"outputs": {}},
    {"outputs": []},
    {"outputs": {"manifest": "@zz", "deployed": True}},
    {"outputs": {"manifest": "s3://other/manifests/" + "a" * 64 + ".json", "deployed": True}},
    {"outputs": {"manifest": "@" + "a" * 64, "deployed": True}},
    {"outputs": {"manifest": 5, "deployed": True}},
    {"outputs": {"manifest": "MANIFEST", "deployed": "perhaps"}},
    {"outputs": {"manifest": "CHECKPOINT", "deployed": True}},
    {"outputs": {"manifest": "MANIFEST", "deployed": True}, "name": "cache/sample/" + "b" * 64 + ".json"},
    {"outputs": {"manifest": "MANIFEST", "deployed": True}, "artifacts": {"summary.md": {"sha256": "c" * 64, "num_bytes": 5}}},
    {"outputs": {"manifest": "MANIFEST", "deployed": True}, "artifacts": {"summary.md": "x"}},
]  # fmt: skip
KIND = dataclasses.replace(STEP, kind="Deployment")


@pytest.mark.parametrize("odd", ODD_ENTRIES, ids=lambda odd: json.dumps(odd)[:60])
def test_an_entry_that_is_not_a_result_of_the_step_is_no_hit(start, tmp_path, odd):
    start(step=KIND)
    store = open_store(str(tmp_path / "store"))
    (entry,) = store.list("cache/")
    digest = record(tmp_path)["outputs"]["manifest"][-69:-5]
    report = publish(store, GateDecision(checkpoint="a" * 64, decision="fail", rules=()))[-69:-5]
    text = odd if isinstance(odd, str) else json.dumps(odd)
    good = store.read_json(entry)
    store.write(entry, text.replace("MANIFEST", f"@{digest}").replace("CHECKPOINT", f"@{report}").encode())
    assert start("--out.manifest", tmp_path / "m", run="r2", step=KIND) is Outcome.DONE
    assert len(CALLS) == 2 and (tmp_path / "m").read_text().endswith(f"{digest}.json")
    assert store.read_json(entry) == good  # made whole again
    start(run="r3", step=KIND)
    assert len(CALLS) == 2


def test_entries_of_the_first_version_are_hits(start, tmp_path):
    start()
    store = open_store(str(tmp_path / "store"))
    (entry,) = store.list("cache/")
    value = store.read_json(entry)
    del value["name"]
    store.write_json(entry, value)
    start()
    assert len(CALLS) == 1


@pytest.mark.parametrize("how", ["gone", "cut", "manifest damaged"])
def test_work_whose_blobs_are_lost_is_done_again(start, tmp_path, how):
    start()
    store = open_store(str(tmp_path / "store"))
    keys = list(store.list("manifests/" if how == "manifest damaged" else "blobs/"))
    before = {key: store.read(key) for key in keys}
    for key in keys:
        if how == "gone":
            store.delete(key)
        else:
            store.write(key, before[key][:-1])
    start()
    assert len(CALLS) == 2 and {key: store.read(key) for key in keys} == before
    start()
    assert len(CALLS) == 2


def test_a_remembered_manifest_that_does_not_fit_the_inputs_is_no_hit(start, tmp_path):
    step = dataclasses.replace(
        STEP, fits=lambda inputs, manifest: "" if manifest.reason == str(inputs.size) else "the reason differs"
    )
    for size in (3, 4):
        start("--size", size, step=step)
    store = open_store(str(tmp_path / "store"))
    first, second = store.list("cache/")
    values = store.read_json(first), store.read_json(second)
    for name, value in ((first, values[1]), (second, values[0])):
        store.write_json(name, value | {"name": name})
    for size in (3, 4):
        start("--size", size, step=step)
    assert len(CALLS) == 4


def test_a_hit_records_its_artifacts(start, tmp_path):
    start()
    start(run="r2")
    assert record(tmp_path, run="r2")["artifacts"] == record(tmp_path)["artifacts"] != {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", '{"attempts": "many"}', '{"attempts": null, "outcome": "x"}', '{"state": []}']
)
@pytest.mark.parametrize("once", [False, True])
def test_a_damaged_record_of_an_earlier_attempt_stops_nothing(start, tmp_path, content, once):
    open_store(str(tmp_path / "store")).write("runs/r1/sample.json", content.encode())
    assert start(*["--once"] * once) is Outcome.DONE
    assert record(tmp_path)["attempts"] == 1


@pytest.mark.parametrize("error", [NetworkError("away"), OSError(28, "full"), ValueError("half a surrogate pair")])
def test_a_failed_step_keeps_its_class_when_its_record_cannot_be_written(start, tmp_path, monkeypatch, error):
    write = LocalStore.write

    def fails(self, key, data):
        if b'"failed"' in data:
            raise error
        return write(self, key, data)

    monkeypatch.setattr(LocalStore, "write", fails)
    assert start("--fail", "data") is Outcome.DATA


def test_a_store_that_is_gone_from_the_start_is_retried(start, monkeypatch):
    def away(*_):
        raise NetworkError("away")

    monkeypatch.setattr(LocalStore, "write", away)
    monkeypatch.setattr(LocalStore, "size", away)
    assert start() is Outcome.NETWORK


def test_inputs_and_a_sign_of_life_are_recorded_while_the_step_works(start, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "HEARTBEAT_S", 0.01)
    seen = []

    def work(inputs, context):
        store = context.store
        first = store.read_json("runs/r1/sample.json")
        wait_until(lambda: store.read_json("runs/r1/sample.json")["alive"] != first["alive"], "a sign of life")
        seen.append(store.read_json("runs/r1/sample.json"))
        return run(inputs, context)

    assert start("--size", 7, step=dataclasses.replace(STEP, run=work)) is Outcome.DONE
    assert seen[0]["inputs"]["size"] == 7 and seen[0]["state"] == "running" and seen[0]["cache_key"]
    assert record(tmp_path)["state"] == "done"
    assert [thread.name for thread in threading.enumerate() if "heartbeat" in thread.name] == []


def test_signs_of_life_that_cannot_be_written_are_logged_and_stop_nothing(start, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(records, "HEARTBEAT_S", 0.01)
    write, attempts = LocalStore.write, []

    def fails(self, key, data):
        if threading.current_thread() is not threading.main_thread():
            attempts.append(key)
            raise OSError(28, "full")
        return write(self, key, data)

    def work(inputs, context):
        wait_until(lambda: len(attempts) > 1, "two attempts")
        return run(inputs, context)

    monkeypatch.setattr(LocalStore, "write", fails)
    assert start(step=dataclasses.replace(STEP, run=work)) is Outcome.DONE
    assert "sign of life" in caplog.text and record(tmp_path)["state"] == "done"


def test_scratch_folders_are_private_and_found_after_a_kill(start, tmp_path):
    folders = []

    def work(inputs, context):
        folders.append(context.work)
        assert context.work.stat().st_mode & 0o777 == 0o700
        assert list(killed(tmp_path / "scratch", 0)) == []  # in use
        return run(inputs, context)

    assert start("--work", tmp_path / "scratch", step=dataclasses.replace(STEP, run=work)) is Outcome.DONE
    assert not folders[0].exists()
    folders[0].mkdir()
    (tmp_path / "scratch" / "mm1-somebody").mkdir()
    assert list(killed(tmp_path / "scratch", 3600)) == []  # too young
    assert list(killed(tmp_path / "scratch", -1)) == folders
