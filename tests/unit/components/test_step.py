"""The wrapper: cache, outputs, records, exit codes, help; on a small step of its own, in this process and in a child."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError, DataError, Outcome
from mm1.manifests import Deployment
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1_components import sft
from mm1_components.ranks.stage_checks import resolve_run
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
