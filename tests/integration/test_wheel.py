"""The built wheel, installed without the checkout: lint, compile, a dry run, a run, and what is not there is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
NO_OP = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: no-op-}
spec:
  entrypoint: main
  templates:
  - name: main
    dag: {tasks: [{name: nothing, template: nothing}]}
  - name: nothing
    container: {image: none, command: [python, -c, pass]}
"""
COMMAND = "import sys; from mm1_workflows.cli import {entry}; sys.exit({entry}(sys.argv[1:]))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's packages; nothing in it points back to the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--no-deps", "--disable-pip-version-check"]
    copied = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    wanted = ("model/", "components/", "workflows/", "studies/", "charts/", "pyproject", "README", "LICENSE", "requirements.in")
    for name in copied.stdout.decode().split("\0"):
        if name.startswith(wanted):
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", folder / "site", wheel], check=True)
    return folder / "site"


def run(site: Path, folder: Path, *words: str, entry: str = "main") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", COMMAND.format(entry=entry), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_packaged_pipelines_lint_compile_and_submit(site: Path, tmp_path: Path) -> None:
    linted = run(site, tmp_path, "lint", "mm1:full", "mm1:pretrain")
    assert linted.returncode == 0 and "2 workflows: 0 errors" in linted.stdout, linted.stdout + linted.stderr
    compiled = run(site, tmp_path, "compile", "mm1:full", "--engine", "argo", "--to", "out")
    assert compiled.returncode == 0, compiled.stderr
    assert yaml.safe_load((tmp_path / "out/full.yaml").read_text())["kind"] == "Workflow"
    sent = run(site, tmp_path, "submit", "mm1:pretrain", "-p", "seed=7", "--dry-run=client", entry="hera")
    assert sent.returncode == 0 and yaml.safe_load(sent.stdout)["metadata"]["generateName"] == "mm1-pretrain-"
    own = (site / "mm1_workflows/pipelines/full.py").read_text()
    (tmp_path / "mine.py").write_text(own)
    assert run(site, tmp_path, "lint", "mine.py").returncode == 0
    unknown = run(site, tmp_path, "run", "mm1:ablate", "-p", "studies=caption_interleavd")
    assert "did you mean 'caption_interleaved'?" in unknown.stderr  # the wheel has the studies
    (tmp_path / "values.yaml").write_text("schedules: {retrain: {enabled: true, arguments: {recipe: mm1_tiny}}}")
    scheduled = run(site, tmp_path, "lint", "--values", "values.yaml")
    assert scheduled.returncode == 0, scheduled.stdout + scheduled.stderr
    nothing = run(site, tmp_path, "lint")
    assert nothing.returncode == 80 and "no workflow files" in nothing.stderr


def test_a_pipeline_runs_and_the_packages_are_those_of_the_wheel(site: Path, tmp_path: Path) -> None:
    (tmp_path / "no_op.yaml").write_text(NO_OP)
    ended = run(site, tmp_path, "run", "no_op.yaml", "--run", "r")
    assert ended.returncode == 0 and "no-op succeeded" in ended.stdout, ended.stdout + ended.stderr
    where = [sys.executable, "-c", "import mm1_workflows; print(mm1_workflows.__file__)"]
    printed = subprocess.run(where, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert printed.stdout.startswith(str(site))
