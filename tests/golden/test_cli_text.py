"""What the commands print: help, errors and tables, as committed in tests/golden/cli. `make golden` writes the files anew."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

import pytest

from mm1.lineage.pins import pin
from mm1.manifests import digest_of_manifest
from mm1.store.open import open_store
from mm1_workflows import cli
from mm1_workflows.cli.root import NAMES
from tests.support.stored_runs import mix, raw, record, report

pytestmark = pytest.mark.golden
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/golden/cli"
DATA = ("stats", "show", "shards", "score")
ROLLOUT = ("status", "history", "promote", "rollback")
HELP = {
    "help": "--help",
    **{f"help-{name}": f"{name} --help" for name in NAMES},
    **{f"help-data-{name}": f"data {name} --help" for name in DATA},
    **{f"help-rollout-{name}": f"rollout {name} --help" for name in ROLLOUT},
}
ERRORS = {
    "error-command": "rnu",
    "error-parameter": "run mm1:ingest -p sede=1",
    "error-run": "runs nwe",
}
TABLES = {
    "runs": "runs",
    "runs-of-one": "runs new",
    "compare": "compare old new",
    "lint": "lint flow.yaml",
    "pins": "pin",
    "gc": "gc --list --keep 1",
}
CASES = HELP | ERRORS | TABLES
FLOW = """\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: flow-}
spec:
  entrypoint: main
  templates:
  - name: main
    dag: {tasks: [{name: greet, template: greet}]}
  - name: greet
    container: {image: "alpine:latest", command: [echo, hello]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command: a workflow file, and a store with two runs and a pin."""
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # gc looks for the folders of killed steps there
    (tmp_path / "flow.yaml").write_text(FLOW)
    store = open_store("runs/store")
    data = raw(store, "data")
    for run, seed, day in (("old", 1, "01"), ("new", 2, "02")):
        times = {"started": f"2026-01-{day}T00:00:00.000+00:00"}
        record(store, run, "ingest", data, cache_hit=seed == 2, **times)
        record(store, run, "mix", mix(store, data), inputs={"seed": seed}, facts={"tokens_per_s": 10.5 * seed}, **times)
        record(store, run, "evaluate", report(store, 0.25 * seed), **times)
        record(store, run, "gate", outputs={"decision": "pass"}, **times)
    failed = {"state": "failed", "outcome": 81, "message": "shard captions-00003 is damaged", "attempts": 2}
    record(store, "new", "sft", started="2026-01-02T00:01:00.000+00:00", **failed)
    pin(store, "best", digest_of_manifest(data))
    store.put_bytes(b"an orphan")
    for path in (tmp_path / "runs").rglob("*"):
        os.utime(path, (0, 0))  # gc leaves alone what is new
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_a_command_prints_what_is_committed(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(shlex.split(CASES[name]))
    except SystemExit as end:
        code = int(end.code or 0)
    printed = "".join(capsys.readouterr()).replace(str(folder), "/folder").replace(str(ROOT), "/checkout")
    lines = [f"$ mm1 {CASES[name]}", *printed.splitlines(), f"exit {code}"]
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    file = FOLDER / f"{name}.txt"
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text)
    committed = file.read_text() if file.is_file() else ""
    assert text == committed, f"{file.name} differs: run `make golden` if the change is meant"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)
