"""The commands that read a store: runs, compare, lineage, gc, serve; and doctor, recipes, compile, help."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.evals.gate import judge, parse_rules
from mm1.lineage import records
from mm1.lineage.gc import find_garbage
from mm1.manifests import (
    GateDecision,
    digest_of_manifest,
    publish,
    split_uri,
)
from mm1.store.base import Store, blob_key
from mm1.store.open import open_store
from mm1_workflows import cli
from mm1_workflows.cli import setup_checks
from mm1_workflows.cli.commands import serve
from tests.support.report_figures import make_checkpoint
from tests.support.stored_runs import ZERO, mix, raw, record, report

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return open_store(str(tmp_path / "store"))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((ROOT / "workflows").glob("*.py")), ids=lambda path: path.stem)
def test_the_list_of_a_workflow_describes_every_parameter(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", str(file), "--list"]) == 0
    tasks, parameters = capsys.readouterr().out.split("parameters (-p name=value):\n")
    assert "at exit" in tasks and len(parameters.splitlines()) >= 4
    assert all("; " in line for line in parameters.splitlines())


def test_the_list_of_a_workflow_shows_the_store_that_a_run_would_use(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "workflows/ingest.py")
    for given, store in ([], "runs/store"), (["--store", "s3://mine/mm1"], "s3://mine/mm1"):
        assert cli.main(["run", file, "--list", *given]) == 0
        assert f"default {store!r}; object store" in said(capsys)


def test_the_tasks_of_a_run_are_not_selected_by_state(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "mine", "pretrain")
    assert cli.main(["runs", "mine", "--state", "done", "--store", store.uri]) == 80
    assert "without RUN" in capsys.readouterr().err


def test_runs_are_listed_newest_first_with_state_and_reason(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "old", "ingest")
    record(store, "new", "ingest", started="2026-02-01T00:00:00.000+00:00", cache_hit=True)
    record(
        store,
        "new",
        "pretrain",
        started="2026-02-01T00:01:00.000+00:00",
        state="failed",
        outcome=81,
        message="shard [3] is torn",
    )
    assert cli.main(["runs", "--store", store.uri]) == 0
    lines = said(capsys).splitlines()
    assert lines[1].startswith("new") and "failed" in lines[1] and "pretrain (data)" in lines[1]
    assert lines[2].startswith("old") and "done" in lines[2]
    assert cli.main(["runs", "new", "--store", store.uri]) == 0
    assert "shard [3] is torn" in said(capsys)
    assert cli.main(["runs", "--state", "done", "--store", store.uri]) == 0
    assert "new" not in said(capsys)
    assert cli.main(["runs", "nwe", "--store", store.uri]) == 80
    assert "did you mean 'new'" in capsys.readouterr().err


def test_the_tasks_of_a_run_show_their_scalar_outputs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    uri = record(store, "r", "ingest", raw(store, "x"))
    outputs = {"decision": "retrain", "deployed": True, "new_shards": 3, "text": "[b] " * 20, "parts": json.dumps([uri, uri])}
    record(store, "r", "check", outputs=outputs)
    record(store, "r", "gate", outputs={"manifest": uri, "decision": "pass"})
    assert cli.main(["runs", "r", "--store", store.uri]) == 0
    lines = {line.split()[0]: line for line in said(capsys).splitlines()}
    assert "decision=retrain deployed=true new_shards=3 parts=[2 manifests] text=[b] [b]" in lines["check"]
    assert lines["check"].rstrip().endswith("[b]…")
    assert lines["ingest"].rstrip().endswith(split_uri(uri)[1][:12])
    assert lines["gate"].rstrip().endswith(f"{split_uri(uri)[1][:12]} decision=pass")


def test_a_run_that_was_stopped_did_not_fail(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "mine", "ingest")
    record(store, "mine", "pretrain", state="failed", outcome=87, message="asked to stop")
    assert cli.main(["runs", "--store", store.uri, "--state", "stopped"]) == 0
    assert "mine   stopped" in said(capsys)
    record(store, "mine", "evaluate", state="failed", outcome=81)
    assert cli.main(["runs", "--store", store.uri]) == 0
    assert "mine   failed" in said(capsys)


def test_two_runs_are_compared_where_they_differ(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    parent = raw(store, "x")
    for run, seed, value in (("a", 1, 0.5), ("b", 2, 0.75)):
        record(store, run, "mix", mix(store, parent), inputs={"seed": seed, "data": "same"}, facts={"speed": 10 * seed})
        record(store, run, "evaluate", report(store, value))
    assert cli.main(["compare", "a", "b", "--store", store.uri]) == 0
    text = said(capsys)
    assert "mix.seed" in text and "mix.data" not in text and "mix.speed" in text
    line = next(line for line in text.splitlines() if "vqa/4/accuracy" in line)
    assert "0.500 ± 0.020" in line and "0.750 ± 0.020" in line and "+0.25" in line
    assert cli.main(["compare", "a", "a", "--store", store.uri]) == 0
    assert "do not differ" in said(capsys)


def test_compared_checkpoints_show_their_last_losses(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    mixture = mix(store, raw(store, "x"))
    for run, steps in (("a", 20), ("b", 40)):
        checkpoint = make_checkpoint(store, "pretrain", "mm1_tiny", steps, (), mixture)
        record(store, run, "pretrain", checkpoint)
    assert cli.main(["compare", "a", "b", "--store", store.uri]) == 0
    lines = [line for line in said(capsys).splitlines() if "pretrain." in line]
    assert any("pretrain.step" in line and "20" in line and "40" in line for line in lines)
    assert all(any(name in line for line in lines) for name in ("pretrain.loss", "pretrain.loss/text", "pretrain.grad_norm"))
    history = checkpoint.history
    assert history is not None
    for damage in (lambda: store.write(blob_key(history), b"no parquet"), lambda: store.delete(blob_key(history))):
        damage()
        assert cli.main(["compare", "a", "b", "--store", store.uri]) == 0
        assert "pretrain.step" in said(capsys)


def test_lineage_goes_back_to_the_raw_data(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = raw(store, "x")
    record(store, "r", "ingest", parent)
    uri = record(store, "r", "mix", mix(store, parent))
    digest = split_uri(uri)[1]
    for word in (uri, digest, digest[:10], "r"):
        assert cli.main(["lineage", word, "--store", store.uri]) == 0
        text = said(capsys)
        assert text.index(f"DataMix {digest[:12]}") < text.index("RawData") and text.count("DataMix") == 1
    html, dot = tmp_path / "l.html", tmp_path / "l.dot"
    assert cli.main(["lineage", uri, "--store", store.uri, "--html", str(html), "--dot", str(dot)]) == 0
    assert html.read_text().count("<rect") == 2 and "http:" not in html.read_text() and "https:" not in html.read_text()
    assert f'"{digest_of_manifest(parent)}" -> "{digest}"' in dot.read_text()
    assert cli.main(["lineage", "nothing", "--store", store.uri]) == 80


def age(store: Store, hours: float) -> None:
    """Make everything older."""
    when = time.time() - hours * 3600
    for path in Path(store.uri.removeprefix("file://")).rglob("*"):
        if path.is_file():
            os.utime(path, (when, when))


def test_gc_removes_what_nothing_needs_and_only_when_told(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, pinned = raw(store, "old"), raw(store, "new"), raw(store, "pinned")
    record(store, "old", "ingest", old)
    record(store, "new", "ingest", new, started="2026-02-01T00:00:00.000+00:00")
    record(store, "new", "mix", mix(store, new), started="2026-02-01T00:00:00.000+00:00")
    store.write("pins/best", publish(store, pinned).encode())
    store.write_json("cache/ingest/old-ingest.json", {"outputs": {}})
    store.write_json("cache/ingest/new-ingest.json", {"outputs": {}})
    store.put_bytes(b"orphan")
    age(store, 2)
    fresh = store.put_bytes(b"just written by a running step")
    assert cli.main(["gc", "--store", store.uri, "--keep", "1"]) == 0
    assert "would delete 1 run record, 1 cached result, 1 manifest, 2 blobs" in said(capsys)
    before = sorted(store.list(""))
    assert cli.main(["gc", "--store", store.uri, "--keep", "1", "--yes"]) == 0
    assert len(before) - len(list(store.list(""))) == 5
    for manifest in (new, pinned):
        assert store.exists(f"manifests/{digest_of_manifest(manifest)}.json")
        assert store.get_bytes(manifest.sources["text"].shards[0].tar)
    assert store.get_bytes(fresh)
    assert not store.exists(f"manifests/{digest_of_manifest(old)}.json")
    assert find_garbage(store, keep=1, keep_runs=[]).keys == []


def test_gc_keeps_what_is_pinned_and_lists_the_rest(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    parent = raw(store, "pinned")
    record(store, "old", "ingest", parent)
    uri = record(store, "old", "mix", mix(store, parent))
    record(store, "new", "ingest", raw(store, "new"), started="2026-02-01T00:00:00.000+00:00")
    age(store, 2)
    at = ["--store", store.uri]
    gc = ["gc", "--keep", "1", *at]
    assert cli.main(["pin", *at]) == 0 and "no pins in" in said(capsys)
    for name, target in (("run", "old"), ("address", uri), ("digest", split_uri(uri)[1][:12])):
        assert cli.main([*gc, "--list"]) == 0
        assert f"manifests/{split_uri(uri)[1]}.json" in said(capsys).splitlines()
        assert cli.main(["pin", name, target, *at]) == 0
        assert f"pinned as {name}: DataMix: text 100%" in said(capsys)
        assert cli.main(["pin", *at]) == 0 and "DataMix: text 100%" in said(capsys)
        assert cli.main([*gc, "--list"]) == 0
        assert said(capsys).splitlines()[:-1] == ["runs/old/ingest.json", "runs/old/mix.json"]
        if name != "digest":
            assert cli.main(["pin", name, "--remove", *at]) == 0
    assert cli.main([*gc, "--yes"]) == 0
    assert store.exists(f"manifests/{digest_of_manifest(parent)}.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kept", "r"], "pin 'kept' exists: choose another name, or remove it"),
        (["best"], "expected what to pin"),
        (["a/b", "r"], "expected a name of letters"),
        (["best", "nothing"], "no run 'nothing'"),
        (["best", f"s3://other/manifests/{ZERO}.json"], "add --store s3://other"),
        (["kpt", "--remove"], "did you mean 'kept'"),
        (["--remove"], "mm1 pin NAME --remove"),
        (["kept", "r", "--remove"], "mm1 pin NAME --remove"),
    ],
)
def test_wrong_pins_are_refused(store: Store, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    record(store, "r", "ingest", raw(store, "x"))
    assert cli.main(["pin", "kept", "r", "--store", store.uri]) == 0
    assert cli.main(["pin", *words, "--store", store.uri]) == 80
    assert message in capsys.readouterr().err
    assert [key for key in store.list("pins/")] == ["pins/kept"]


def test_gc_keeps_unfinished_work_for_a_month(store: Store) -> None:
    unfinished = raw(store, "stands for a checkpoint")
    publish(store, unfinished)
    record(store, "old", "pretrain", state="failed")
    store.write_json("resume/work.json", {"checkpoints": [digest_of_manifest(unfinished)]})
    store.write("watch/work/metrics/000000000005.jsonl", b"{}")
    left = store.scratch() / "checkpoint-0-killed"
    left.mkdir(parents=True)
    age(store, 24 * 29)
    os.utime(left, (0, 0))
    assert find_garbage(store, keep=0, keep_runs=[]).keys == ["runs/old/pretrain.json"]
    assert cli.main(["gc", "--store", store.uri, "--keep", "1", "--yes"]) == 0
    assert not left.exists()
    age(store, 24 * 31)
    gone = find_garbage(store, keep=1, keep_runs=[]).keys
    assert {"resume/work.json", "watch/work/metrics/000000000005.jsonl"} < set(gone)
    assert f"manifests/{digest_of_manifest(unfinished)}.json" in gone


@pytest.mark.parametrize(("second", "state"), [("05", "failed"), ("20", "stopped")])
def test_a_task_that_was_stopped_after_a_failure_belongs_to_a_later_attempt(store: Store, second: str, state: str) -> None:
    record(store, "r", "mix", state="failed", outcome=81, ended="2026-01-01T00:00:10.000+00:00")
    record(store, "r", "ingest", state="failed", outcome=87, started=f"2026-01-01T00:00:{second}.000+00:00")
    record(store, "r", "report")
    assert records.read_run(store, "r").state == state


@pytest.mark.parametrize("missing", [False, True])
def test_the_tasks_of_a_run_end_with_the_rules_of_the_gate_that_failed(
    store: Store, capsys: pytest.CaptureFixture[str], missing: bool
) -> None:
    rules = parse_rules("vqa/4/accuracy>=0.5 vqa/4/accuracy>=0.1 captions/0/cider>=1")
    decision = GateDecision(checkpoint=ZERO, decision="fail", rules=judge(rules, [report(store, 0.25)]))
    uri = record(store, "r", "gate", decision, outputs={"manifest": publish(store, decision), "decision": "fail"})
    if missing:
        store.delete(f"manifests/{split_uri(uri)[1]}.json")
    assert cli.main(["runs", "r", "--store", store.uri]) == 0
    *_, last = said(capsys).splitlines()
    if missing:
        assert last.startswith("gate: decision=fail; its rules cannot be read:") and "does not exist" in last
        return
    assert last.startswith("gate: rule captions/0/cider >= 1 failed: not scored")


def test_gc_keeps_named_runs_and_waits_for_running_ones(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "old", "ingest", raw(store, "old"))
    record(store, "new", "ingest", started="2026-02-01T00:00:00.000+00:00")
    age(store, 2)
    assert find_garbage(store, keep=1, keep_runs=[]).keys
    assert find_garbage(store, keep=1, keep_runs=["old"]).keys == []
    assert [len(find_garbage(store, keep=keep).runs) for keep in (0, 1, 2, 3)] == [2, 1, 0, 0]
    with pytest.raises(ConfigurationError, match="keep: expected an integer of at least 0, got -1"):
        find_garbage(store, keep=-1)
    with pytest.raises(ConfigurationError, match="no run gone"):
        find_garbage(store, keep=1, keep_runs=["gone"])
    record(store, "live", "pretrain", state="running", started=datetime.now(UTC).isoformat())
    before = sorted(store.list(""))
    capsys.readouterr()
    assert cli.main(["gc", "--store", store.uri, "--keep", "1", "--yes"]) == 80
    assert "live is running" in capsys.readouterr().err and sorted(store.list("")) == before
    assert cli.main(["gc", "--store", store.uri, "--keep", "1", "--list"]) == 0
    listing = said(capsys)
    assert "runs/old/ingest.json" in listing and "delete with --yes once live has ended" in listing


def test_gc_counts_in_words_and_names_what_only_its_age_protects(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "old", "ingest", raw(store, "old"))
    assert cli.main(["gc", "--store", store.uri, "--keep", "0"]) == 0
    assert "would delete nothing and keep 3 objects (3 of them only because they are younger than an hour)" in said(capsys)
    age(store, 2)
    assert cli.main(["gc", "--store", store.uri, "--keep", "0", "--yes"]) == 0
    assert "deleted 1 run record, 1 manifest, 1 blob, kept 0 objects" in said(capsys)


WHOLE = {"run": "bad", "task": "mix", "state": "done"}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "5", "null", "{}", "[" * 5000, '{"task": 5}',
        json.dumps(WHOLE | {"started": "2026-01-01T00:00:00"}),
        json.dumps(WHOLE | {"started": "soon"}),
        json.dumps(WHOLE | {"seconds": float("nan")}),
        json.dumps(WHOLE | {"inputs": ["x"] * 5000}),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_and_stops_no_listing_but_every_removal(
    store: Store, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, content: str
) -> None:
    record(store, "good", "ingest", raw(store, "good"))
    record(store, "half", "ingest", raw(store, "half"))
    for key in ("runs/bad/mix.json", "runs/half/mix.json"):
        store.write(key, content.encode())
    age(store, 2)
    assert cli.main(["runs", "--store", store.uri]) == 0
    listing = said(capsys)
    assert "good" in listing and "half" in listing and "bad" not in listing
    warnings = [item.getMessage() for item in caplog.records]
    assert len(warnings) == 2 and all("delete it to discard the task's record" in text and len(text) < 500 for text in warnings)
    before = sorted(store.list(""))
    for words in (["runs", "bad"], ["compare", "good", "half"], ["lineage", "half"], ["gc", "--keep", "0", "--yes"]):
        assert cli.main([*words, "--store", store.uri]) == 81, words
        complaint = capsys.readouterr().err
        assert "/mix.json" in complaint and "restore it" in complaint and "pydantic" not in complaint, words
    assert sorted(store.list("")) == before


@pytest.mark.parametrize("key", ["manifests", "cache", "resume"])
def test_gc_refuses_while_what_keeps_others_is_damaged(store: Store, key: str) -> None:
    manifest = raw(store, "old")
    record(store, "r", "ingest", manifest)
    damaged = {
        "manifests": f"manifests/{digest_of_manifest(manifest)}.json",
        "cache": "cache/ingest/r-ingest.json",
        "resume": "resume/work.json",
    }[key]
    store.write(damaged, b"{")
    age(store, 2)
    with pytest.raises(DataError, match=f"nothing is removed.*{damaged} is damaged; restore it"):
        find_garbage(store, keep=1)
    store.delete(damaged)
    assert find_garbage(store, keep=1)


@pytest.mark.parametrize(
    "words",
    [
        "runs",
        "runs r",
        "gc",
        "gc --yes",
        "pin",
        "compare a b",
        "lineage x",
        "data stats x",
        "data show x",
        "serve",
        "data score {scores}",
    ],
)
def test_commands_that_read_make_no_store(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.csv"
    scores.write_text(f"shard,quality\n{ZERO},1\n")
    monkeypatch.chdir(tmp_path)
    command = words.format(scores=scores).split()
    assert cli.main([*command, "--store", "typo"]) == 80
    assert f"store file://{tmp_path}/typo: the folder does not exist" in capsys.readouterr().err
    if words != "data score {scores}":
        assert cli.main(command) == (0 if command[0] in ("gc", "pin") or command == ["runs"] else 80)
        assert "the folder does not exist" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [scores]


def test_serve_finds_the_newest_deployment(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="no run has deployed"):
        serve.newest_deployment(store)
    for run, day, deployed in (("a", 1, True), ("b", 2, True), ("c", 3, False)):
        when = f"2026-01-0{day}T00:00:00.000+00:00"
        record(store, run, "deploy", step="deploy", started=when, outputs={"deployed": deployed, "manifest": f"uri-{run}"})
    assert serve.newest_deployment(store) == "uri-b"


def test_records_of_a_run_are_summed(store: Store) -> None:
    record(store, "r", "a")
    record(store, "r", "b", state="running", started="2026-01-01T00:00:01.000+00:00")
    run = records.read_run(store, "r")
    assert run.state == "running" and run.seconds == 4.0 and list(run.tasks) == ["a", "b"]


def test_doctor_compares_with_the_lock_and_says_how_to_fix(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("pydantic==0.0.1 \\\n    --hash=sha256:00\nnot-there==1.0 ; sys_platform == 'win32'\nmissing-one==2.0\n")
    assert setup_checks.locked(lock.read_text()) == {"pydantic": "0.0.1", "missing-one": "2.0"}
    (check,) = setup_checks.packages(lock)
    assert (
        not check.fine and "pydantic" in check.state and "missing-one missing" in check.state and check.remedy == "make setup"
    )
    assert next(iter(setup_checks.hera_script())).fine
    assert not setup_checks.store("ftp://x").fine


def test_recipes_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    assert "mm1_tiny_lm" in said(capsys)
    assert cli.main(["recipes", "mm1_tiny"]) == 0
    assert '"stage": "pretrain"' in said(capsys)
    assert cli.main(["recipes", "mm1_tiyn"]) == 80


TWO = f"""
from hera.workflows import DAG, Workflow
from mm1_workflows import steps

def build(name="build-") -> Workflow:
    with Workflow(generate_name=name, entrypoint="main") as w, DAG(name="main"):
        steps.data_mix(data="s3://bucket/manifests/{ZERO}.json")
    return w

def other() -> Workflow:
    return build("other-")
"""


def test_each_workflow_of_a_file_is_written_to_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "two.py").write_text(TWO)
    file, out = tmp_path / "a/two.py", tmp_path / "out"
    assert cli.main(["compile", f"{file}:build", f"{file}:other", f"{file}:other", "--to", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["two-build.yaml", "two-other.yaml"]
    capsys.readouterr()
    assert cli.main(["compile", f"{file}:build", f"{tmp_path}/b/two.py:build", "--to", str(out)]) == 80
    message = capsys.readouterr().err
    assert "a/two.py:build and " in message and "b/two.py:build would both be written to two-build.yaml" in message


def test_lint_goes_on_after_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {"div.py": "1 / 0", "syntax.py": "def", "two.py": TWO, "spec.yaml": "kind: Workflow\nspec: 5"}.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("div.py", "two.py:build", "syntax.py", "spec.yaml")]
    assert cli.main(["lint", *files]) == 80
    output, message = capsys.readouterr()
    assert "two.py:build: warning P010" in output and "4 workflows: 3 errors, 1 warning" in output
    assert all(words in message for words in ("div.py, line 1: ZeroDivisionError", "syntax.py, line 1: SyntaxError"))
    assert "spec.yaml: not a well-formed Argo object: spec: expected a map, got 5" in message


def test_compile_writes_checks_and_shows_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(Path(__file__).resolve().parents[3] / "workflows/evaluate_model.py")
    words = ["compile", file, "--to", str(tmp_path)]
    assert cli.main([*words, "--check"]) == 80
    assert cli.main(words) == 0 and cli.main([*words, "--check"]) == 0
    path = tmp_path / "evaluate_model.yaml"
    path.write_text(path.read_text().replace("step-gate", "step-gait"))
    capsys.readouterr()
    assert cli.main([*words, "--check"]) == 80
    assert "-        template: step-gait" in said(capsys) and "make compile" not in path.read_text()


@pytest.mark.parametrize(
    ("command", "verbs"),
    [
        (cli.main, "run submit compile lint runs compare lineage gc serve doctor recipes"),
        (cli.hera, "generate submit"),
    ],
)
def test_help_lists_the_verbs(command: Any, verbs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--help"])
    assert ended.value.code == 0
    words = said(capsys).split()
    assert all(verb in words for verb in verbs.split())


def test_lint_explains_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lint", "--explain", "p006"]) == 0
    assert "deploy(decision=...)" in said(capsys)
    assert cli.main(["lint", "--explain", "X1"]) == 80
