"""Commands whose reader goes away (``| head -1``), is missing (``>&-``) or lacks a character: the exit code is the work's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mm1.errors import Outcome

PRINTING = {
    "lint": "lint --explain all",
    "recipes": "recipes",
    "runs": "runs --store {store}",
    "dry run": "submit {file} --dry-run=client",
    "help": "--help",
}
SCRIPT = '{command} 2>errors.txt | head -1; echo "exit ${{PIPESTATUS[0]}}"'


def container(script: str) -> dict[str, object]:
    return {"image": "x", "command": ["sh", "-c"], "args": [script]}


def workflow(folder: Path, second: str) -> Path:
    """Two tasks, each of which leaves a file; the reader is gone before the second one starts."""
    tasks = [{"name": "one", "template": "one"}, {"name": "two", "template": "two", "depends": "one"}]
    templates = [
        {"name": "main", "dag": {"tasks": tasks}},
        {"name": "one", "container": container(f"sleep 0.2; touch {folder}/one")},
        {"name": "two", "container": container(f"touch {folder}/two; {second}")},
    ]
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "toy-"}}
    file = folder / f"{second.replace(' ', '-')}.yaml"
    file.write_text(yaml.safe_dump(body | {"spec": {"entrypoint": "main", "templates": templates}}))
    return file


def start(folder: Path, words: str, **environment: str) -> subprocess.Popen[str]:
    command = f"{shlex.quote(sys.executable)} -m mm1_workflows.cli {words}"
    script = ["bash", "-c", SCRIPT.format(command=command)]
    return subprocess.Popen(script, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The line that the reader took, and the exit code of the command."""
    out, _ = process.communicate(timeout=60)
    line, code = out.splitlines()
    return line, code.removeprefix("exit ")


def test_commands_that_print_are_well(tmp_path: Path) -> None:
    file = workflow(tmp_path, "true")
    (tmp_path / "store").mkdir()
    running = {}
    for name, words in PRINTING.items():
        (tmp_path / name).mkdir()
        running[name] = start(tmp_path / name, words.format(store=tmp_path / "store", file=file))
    for name, process in running.items():
        line, code = ended(process)
        assert line and code == "0", name
        assert (tmp_path / name / "errors.txt").read_text() == "", name


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=["lines", "live table"])
def test_a_run_outlives_its_reader(tmp_path: Path, environment: dict[str, str]) -> None:
    running = []
    for name, second in (("good", "true"), ("bad", f"exit {int(Outcome.DATA)}")):
        folder = tmp_path / name
        folder.mkdir()
        file = workflow(folder, second)
        running.append(start(folder, f"run {file} --run r --folder runs --store store", **environment))
    codes = [ended(process)[1] for process in running]
    assert codes == ["0", str(int(Outcome.DATA))]
    for name in ("good", "bad"):
        assert (tmp_path / name / "two").is_file()
        assert (tmp_path / name / "errors.txt").read_text() == ""


def test_a_run_needs_no_output_at_all(tmp_path: Path) -> None:
    running = {}
    for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")):
        for second, code in (("true", 0), (f"exit {int(Outcome.DATA)}", int(Outcome.DATA))):
            folder = tmp_path / f"{number}-{code}"
            folder.mkdir()
            words = (
                f"run {shlex.quote(str(workflow(folder, f'echo said; {second}')))} --run r --folder runs --store store {closed}"
            )
            command = f"{shlex.quote(sys.executable)} -m mm1_workflows.cli {words}"
            running[folder, code] = subprocess.Popen(["bash", "-c", command], cwd=folder, stdout=subprocess.DEVNULL)
    for (folder, code), process in running.items():
        assert process.wait(timeout=60) == code
        assert (folder / "two").is_file() and (folder / "runs/r/two/log.txt").read_text() == "said\n"


def test_characters_that_the_output_lacks_are_escaped(tmp_path: Path) -> None:
    file = workflow(tmp_path, "true")
    document = yaml.safe_load(file.read_text())
    document["spec"]["arguments"] = {"parameters": [{"name": "question", "value": "où?", "description": "été"}]}
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "mm1_workflows.cli"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}

    def run(*words: str | bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, *words], cwd=tmp_path, env=ascii_only, capture_output=True, check=False, timeout=60)

    listed = run("run", file, "--list")
    assert listed.returncode == 0 and b"\\xe9t\\xe9" in listed.stdout
    printed = run("submit", file, "--dry-run=client")
    assert printed.returncode == 0
    assert yaml.safe_load(printed.stdout)["spec"]["arguments"]["parameters"][0]["value"] == "où?"
    refused = run("submit", file, "--dry-run=client", "-p", b"question=\xff")
    assert refused.returncode == 80 and b"parameter 'question' is not valid UTF-8" in refused.stderr
