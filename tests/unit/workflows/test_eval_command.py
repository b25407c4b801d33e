"""``mm1 eval``: models of any kind, shards, interrupted runs, comparison, tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from mm1.evals.tasks.registry import TASKS
from mm1.manifests import EvalReport, digest_of_manifest, load, publish
from mm1.store.open import open_store
from mm1_workflows import cli
from mm1_workflows.cli.commands.eval_run import split_names
from mm1_workflows.cli.root import completed
from tests.support import foreign_models
from tests.support.benchmark_files import write_llava_w
from tests.support.fake_api import FakeApi, serving
from tests.support.report_figures import make_checkpoint
from tests.support.stored_runs import mix, raw
from tests.support.tiny_mm1 import tiny_mm1, write_benchmarks
from tests.support.waiting import wait_until
from tests.unit.test_torch_free import BLOCKER

FILES = ("metrics.json", "samples.parquet", "summary.md")


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "own"
    for part in tiny_mm1():
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return foreign_models.llava(tmp_path_factory.mktemp("models") / "llava")


def run(model, benchmarks, output, *options, tasks="vqa,captions", shots="0,2"):
    argv = ["eval", str(model), "--tasks", tasks, "--shots", shots, "--benchmarks", str(benchmarks), "--output", str(output)]
    return cli.main([*argv, *options])


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def checkpoint(store, folder):
    made = make_checkpoint(store, "pretrain", "mm1_tiny", 20, (), mix(store, raw(store, "x")))
    files = {path.relative_to(folder).as_posix(): store.put_file(path) for path in folder.rglob("*") if path.is_file()}
    return made.model_copy(update={"model": files})


def start(python, module, *argv, **options):
    done = python.run(module, *argv, timeout=120, **options)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_model_that_is_not_ours_is_scored_shown_and_compared_with_ours(own, llava, benchmarks, tmp_path, capsys):
    assert run(llava, benchmarks, tmp_path / "llava", "--limit", "8") == 0
    shown = capsys.readouterr().out
    assert "vqa, images shuffled" in shown and "2 shots" in shown and f"written: {tmp_path / 'llava'}" in shown
    report = json.loads((tmp_path / "llava" / "report.json").read_text())
    assert report["model"]["kind"] == "transformers" and report["model"]["model_type"] == "llava"
    assert {(score["task"], score["shots"]) for score in report["scores"]} >= {("vqa", 0), ("captions", 2)}
    assert report["run"]["prompts"] == 48
    assert run(own, benchmarks, tmp_path / "own", "--limit", "8") == 0
    capsys.readouterr()
    assert cli.main(["eval", "compare", str(tmp_path / "own"), str(tmp_path / "llava"), "--items", "2"]) == 0
    shown = capsys.readouterr().out
    assert "A - B" in shown and "content_f1, shuffled" in shown and "detectable" in shown
    assert run(own, benchmarks, tmp_path / "four", "--limit", "4") == 0
    assert cli.main(["eval", "compare", str(tmp_path / "own"), str(tmp_path / "four")]) == 80
    assert "only in the first evaluation" in capsys.readouterr().err


def test_shards_processes_and_ranks_give_the_files_of_one_process(own, benchmarks, tmp_path, warm_python, monkeypatch):
    options = ("--limit", "8")
    assert run(own, benchmarks, tmp_path / "one", *options) == 0
    argv = ["eval", str(own), "--tasks", "vqa captions", "--shots", "0,2", "--benchmarks", str(benchmarks), *options]
    for index in ("1/2", "0/2"):
        start(warm_python, "mm1_workflows.cli", *argv, "--output", str(tmp_path / "shards"), "--shard", index)
        assert not (tmp_path / "shards" / "report.json").exists()
    start(warm_python, "mm1_workflows.cli", *argv, "--output", str(tmp_path / "shards"))
    start(warm_python, "mm1_workflows.cli", *argv, "--output", str(tmp_path / "processes"), "--processes", "2")
    for rank in ("1", "0"):
        ranks = {**os.environ, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        start(warm_python, "mm1_workflows.cli", *argv, "--output", str(tmp_path / "ranks"), env=ranks)
    for name in ("shards", "processes", "ranks"):
        assert contents(tmp_path / name) == contents(tmp_path / "one"), name
    assert run(own, benchmarks, tmp_path / "one", "--shard", "0/2", "--no-resume") == 80


def test_a_killed_run_continues_after_its_last_part(benchmarks, tmp_path, warm_python):
    texts = [{"id": f"t{n}", "kind": "x", "prompt": f"number {n}", "answer": f"{n}"} for n in range(150)]
    split = tmp_path / "bench" / "test"
    split.mkdir(parents=True)
    (split / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    with serving(api := FakeApi()) as address:
        argv = ["eval", address, "--tasks", "numbers", "--shots", "0", "--benchmarks", str(tmp_path / "bench")]
        argv += ["--output", str(tmp_path / "out"), "--concurrency", "2"]
        replies = tmp_path / "out" / "replies"

        def hold_after_the_first_part(body):
            if len(api.requests) > 80:
                api.hold.clear()
            return ""

        api.refuse = hold_after_the_first_part
        with (tmp_path / "log").open("w") as log:
            process = warm_python.start("mm1_workflows.cli", *argv, stdout=log, stderr=log)
        wait_until(lambda: process.poll() is not None or list(replies.glob("*.json")), "the first part", 60)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        api.refuse = lambda body: ""
        api.hold.set()
        kept = len(list(replies.glob("*.json")))
        before = len(api.requests)
        assert kept >= 1 and not (tmp_path / "out" / "report.json").exists()
        assert cli.main(argv) == 0
        asked = [body for path, body, _ in api.requests[before:] if body.get("prompt", "").startswith("number")]
        assert len(asked) == 150 - min(150, 64 * kept)
        requests = len(api.requests)
        assert cli.main(argv) == 0 and len([path for path, _, _ in api.requests[requests:] if path != "models"]) == 0
        assert cli.main([*argv, "--no-resume"]) == 0 and len(api.requests) > requests + 150


def test_a_checkpoint_is_evaluated_from_its_store_and_its_report_published(own, benchmarks, tmp_path, capsys):
    store = open_store(str(tmp_path / "store"))
    files = {path.relative_to(own).as_posix(): store.put_file(path) for path in own.rglob("*") if path.is_file()}
    made = make_checkpoint(store, "pretrain", "mm1_tiny", 20, (), mix(store, raw(store, "x"))).model_copy(
        update={"model": files}
    )
    address, digest = publish(store, made), digest_of_manifest(made)
    assert run(digest, benchmarks, tmp_path / "a", "--store", store.uri, "--limit", "4") == 0
    uri = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("published:"))
    report = load(uri, EvalReport)
    assert report.checkpoint == digest and report.parents == (digest,) and report.samples is not None
    assert run(address, benchmarks, tmp_path / "b", "--limit", "4") == 0
    assert run(own, benchmarks, tmp_path / "c", "--limit", "4", "--store", store.uri) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    foreign = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("published:"))
    assert load(foreign, EvalReport).parents == () and load(foreign, EvalReport).checkpoint != digest
    assert cli.main(["eval", "compare", uri, str(tmp_path / "b"), "--store", store.uri]) == 0


def test_the_step_evaluate_gives_the_same_scores_in_one_and_in_two_processes(own, benchmarks, tmp_path, warm_python):
    store = open_store(str(tmp_path / "store"))
    files = {path.relative_to(own).as_posix(): store.put_file(path) for path in own.rglob("*") if path.is_file()}
    made = make_checkpoint(store, "pretrain", "mm1_tiny", 20, (), mix(store, raw(store, "x"))).model_copy(
        update={"model": files}
    )
    argv = ["--checkpoint", publish(store, made), "--benchmarks", str(benchmarks), "--tasks", "vqa captions", "--shots", "0 2"]
    argv += ["--items", "8", "--store", store.uri, "--no-cache"]
    manifests = []
    for number in ("1", "2"):
        out = ("--out.manifest", str(tmp_path / number), "--artifact.metrics.json", str(tmp_path / f"{number}.json"))
        start(warm_python, "mm1_components.evaluate", *argv, *out, "--processes", number, cwd=tmp_path)
        manifests.append((tmp_path / number).read_text().strip())
    assert manifests[0] == manifests[1], "the digest is that of the content"
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert run(own, benchmarks, tmp_path / "cli", "--limit", "8") == 0
    assert (tmp_path / "cli" / "metrics.json").read_bytes() == (tmp_path / "1.json").read_bytes()


MISTAKES = [
    ("MODEL", "--tasks vqua", "did you mean 'vqa'"),
    ("MODEL", "--benchmarks nowhere", "no such file or folder"),
    ("MODEL", "--shots x", "expected numbers"),
    ("MODEL", "--shots 50", "lower shots"),
    ("nowhere", "", "no such folder"),
    ("some/name", "", "hf download some/name"),
    ("BENCH", "", "no config.json"),
    ("MODEL", "--dtype float16", "--dtype does not apply to an MM1 model"),
    ("MODEL", "--request-timeout 5", "--request-timeout does not apply"),
    ("MODEL", "--selection similar --draws 2", "set draws to 1"),
    ("MODEL", "--question-template {question}", "template question"),
    ("MODEL", "--tasks vqa,vqa", "expected different values"),
    ("abcdef12", "", "a digest needs --store"),
]
REPORTS = """
import contextlib, io, json
from mm1_workflows.cli import main
for argv in json.loads(sys.stdin.read()):
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        code = main(argv)
    print(json.dumps([code, errors.getvalue()]))
"""


def test_mistakes_are_named_before_anything_heavy_is_imported(own, benchmarks, tmp_path):
    plain = {"--tasks": "vqa", "--benchmarks": str(benchmarks), "--shots": "0"}
    argvs = []
    for model, options, _ in MISTAKES:
        words = options.split()
        given = plain | dict(zip(words[::2], words[1::2], strict=True))
        name = {"MODEL": str(own), "BENCH": str(benchmarks)}.get(model, model)
        argvs.append(["eval", name, *(word for pair in given.items() for word in pair)])
    command = [sys.executable, "-c", BLOCKER + REPORTS, "mm1_workflows.cli"]
    result = subprocess.run(command, input=json.dumps(argvs), capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    for (model, options, message), line in zip(MISTAKES, result.stdout.splitlines(), strict=True):
        code, errors = json.loads(line)
        assert code == 80 and message in errors, f"{model} {options}: {errors}"


def test_tasks_are_listed_with_their_files_and_splits(capsys):
    assert cli.main(["eval", "tasks"]) == 0
    listed = capsys.readouterr().out
    assert "captions_heldout" in listed and "<split>/text.jsonl" in listed
    assert cli.main(["eval", "tasks", "vqa"]) == 0 and "text.jsonl" not in capsys.readouterr().out.split("\n\n")[0]
    assert cli.main(["eval", "tasks", "nothing"]) == 80


def test_the_subcommand_run_may_be_left_out():
    assert completed(["eval", "folder", "--tasks", "vqa"]) == ["eval", "run", "folder", "--tasks", "vqa"]
    assert completed(["eval", "--tasks", "vqa", "folder"])[:2] == ["eval", "run"]
    for argv in (["eval"], ["eval", "compare", "a", "b"], ["eval", "tasks"], ["eval", "--help"], ["run", "x"], []):
        assert completed(argv) == argv


def test_names_of_tasks_are_separated_by_commas_or_spaces():
    assert split_names(["vqa@0,4,captions", "pope text@0"]) == ["vqa@0,4", "captions", "pope", "text@0"]
    assert split_names([" vqa , captions "]) == ["vqa", "captions"] and split_names([""]) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_loaded(own, benchmarks, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file", tmp_path / "file/below", "/proc/below"):
        assert run(own, benchmarks, output) == 80
        assert "--output: " in (printed := capsys.readouterr().err) and "cannot be written" in printed


def test_a_judge_has_settings_of_its_own(own, tmp_path, capsys):
    """A local model with a judge behind an API, whose options do not apply to the model."""
    write_llava_w(tmp_path / "benchmarks/llava_w")
    (tmp_path / "key").write_text("sk-of-the-judge")
    options = ["--judge-name", "fake", "--judge-api-key-file", str(tmp_path / "key"), "--concurrency", "2", "--no-controls"]
    with pytest.MonkeyPatch.context() as patch, serving(api := FakeApi()) as address:
        patch.setitem(TASKS, "llava_w", replace(TASKS["llava_w"], max_new_tokens=4))
        patch.setattr(api, "_content", lambda path, body: {"choices": [{"message": {"content": "8 4"}, "text": ""}]})
        arguments = (own, tmp_path / "benchmarks", tmp_path / "out")
        assert run(*arguments, "--judge", address, *options, tasks="llava_w", shots="0") == 0
        assert {headers["Authorization"] for _, _, headers in api.requests} == {"Bearer sk-of-the-judge"}
    scores = json.loads((tmp_path / "out/metrics.json").read_text())["scores"]
    assert {score["metric"]: score["value"] for score in scores}["relative_grade"] == 50
    for wrong in (options, ["--concurrency", "2"], ["--judge", str(own), "--concurrency", "2"]):
        assert run(*arguments, *wrong, tasks="llava_w", shots="0") == 80
    assert "--concurrency does not apply" in capsys.readouterr().err


def test_evaluations_without_values_are_not_compared(own, benchmarks, tmp_path, capsys):
    write_llava_w(tmp_path / "benchmarks/llava_w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "llava_w", replace(TASKS["llava_w"], max_new_tokens=4))
        assert run(own, tmp_path / "benchmarks", tmp_path / "out", "--no-controls", tasks="llava_w", shots="0") == 0
    assert cli.main(["eval", "compare", str(tmp_path / "out"), str(tmp_path / "out")]) == 80
    assert "need a judge" in capsys.readouterr().err
