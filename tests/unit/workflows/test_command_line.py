"""The command line itself: wrong words, counts, what is not there, classes and pages of errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cappa import collect
from cappa.subcommand import FinalSubcommand

from mm1.errors import BY_OUTCOME, Outcome
from mm1_workflows import cli
from mm1_workflows.cli import pages, root
from mm1_workflows.cli.pages import FAILURES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["comple"], "did you mean 'compile'?"),
        (["data", "stas"], "unknown command 'stas'; did you mean 'stats'?"),
        (["submit"], "missing argument FILE. Workflow: file.py"),
        (["submit", "x.py", "--dry-rn"], "unknown option --dry-rn; did you mean '--dry-run'?"),
        (["run", "x.py", "--run"], "missing value of --run: expected NAME"),
        (["run", "x.py", "-p"], "missing value of -p: expected NAME=VALUE"),
        (["run", "x.py", "--parameter", "--run", "a"], "missing value of --parameter: expected NAME=VALUE"),
        (["run", "--store", "a", "x.py", "--profile"], "missing value of --profile: expected NAME|FILE"),
        (["qqqqqq"], "unknown command 'qqqqqq'"),
        (["compile", "--engine", "argoo"], "got 'argoo'; did you mean 'argo'?"),
        (["compile", "--engine", "zzz"], "--engine: expected one of argo, kubeflow, template, got 'zzz'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_right_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gc", "--keep"], "of at least 0"),
        (["runs", "--limit"], "of at least 1"),
        (["run", "x.py", "--cores"], "of at least 0"),
        (["data", "show", "x", "--sequences"], "of at least 1"),
        (["data", "show", "x", "--first"], "of at least 0"),
        (["plan", "--recipe", "mm1_3b", "--gpus"], "of at least 1"),
        (["stop", "x", "--timeout"], "of at least 0"),
        (["serve", "--port"], "from 0 to 65535"),
    ],
)
def test_every_count_has_bounds(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    *most, option = words
    for value in ("-1", "²", "1_0", "1.5", "", " 1", "9" * 20, "x"):
        with pytest.raises(SystemExit) as ended:
            cli.main([*most, f"{option}={value}"] if value else [*words, value])
        assert ended.value.code == 2
        assert f"'{option}': expected an integer {expected}, got '{value}'" in capsys.readouterr().err.replace(" \n", " ")


def test_no_option_is_a_number_without_bounds() -> None:
    def check(command: Any) -> None:
        for argument in command.arguments:
            if isinstance(argument, FinalSubcommand):
                for nested in argument.options.values():
                    check(nested)
            elif argument.type_view.is_subclass_of(int) and not argument.type_view.is_subclass_of(bool):
                with pytest.raises(ValueError, match="expected an integer"):
                    argument.parse("-1")

    check(collect(root.mm1([])))


@pytest.mark.parametrize("name", root.NAMES)
def test_no_help_names_two_defaults(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.lower().count("default:") > 1]


@pytest.mark.parametrize(
    "words", [["lint"], ["compile"], ["compile", "--check"], ["lint", "mm1:nothing"], ["lint", "nothing.py"]]
)
def test_what_is_not_there_is_no_success(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 80
    output = capsys.readouterr()
    assert not output.out and re.search("no (workflow files|pipeline|such file)", output.err)


def test_an_error_names_its_class_and_the_page_that_explains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "nothing.py"]) == 80
    assert f"configuration, exit code 80: {ROOT / FAILURES}#80-configuration" in capsys.readouterr().err
    monkeypatch.setattr(pages, "CHECKOUT", tmp_path)
    assert cli.main(["run", "nothing.py"]) == 80
    assert "exit code 80: see 'When a run fails', '80 configuration', in the documentation of MM1" in capsys.readouterr().err
    monkeypatch.chdir(ROOT)
    assert cli.main(["run", "nothing.py"]) == 80
    assert f"configuration, exit code 80: {FAILURES}#80-configuration" in capsys.readouterr().err


@pytest.mark.parametrize(("path", "title"), pages.TITLES.items())
def test_pages_have_the_titles_that_messages_say(path: str, title: str) -> None:
    assert (ROOT / path).read_text().startswith(f"# {title}\n")


@pytest.mark.parametrize("outcome", sorted(BY_OUTCOME))
def test_the_page_has_a_section_for_each_class(outcome: Outcome) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / FAILURES).read_text(), re.MULTILINE)
    assert f"{int(outcome)} {outcome.name.lower().replace('_', ' ')}" in headings


def test_packaged_pipelines_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "mm1:pretrain", "--list"]) == 0
    assert "steps of mm1-pretrain" in capsys.readouterr().out


VALUES = """
store: {uri: s3://bkt/x}
schedules:
  retrain: {enabled: true, template: mm1-full, arguments: {items: many}, schedules: ["61 25 * * *"], timezone: Mars/Base}
  other: {template: mm1-ful, schedules: ["@daily"]}
  third: {template: mm1-full, arguments: {recipe: mm1_tny, items: 4}, schedules: ["@daily"]}
  good: {template: mm1-full, arguments: {items: 4, seed: 1}, schedules: ["0 3 * * 6"], timezone: Europe/Berlin}
"""


def test_schedules_of_a_values_file_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(VALUES)
    assert cli.main(["lint", "--values", str(path)]) == 80
    output = capsys.readouterr().out
    for words in (
        "schedules.retrain.schedules.0: '61 25 * * *': minute '61'",
        "schedules.retrain.timezone: unknown time zone",
        "parameter items: expected an integer, got 'many'",
        "schedules.other.template: no template 'mm1-ful'; did you mean 'mm1-full'",
        "schedules.third.arguments: task pretrain: unknown recipe 'mm1_tny'",
        "1 values file: 5 errors",
    ):
        assert words in output
    assert "schedules.good" not in output
    assert cli.main(["lint", "--values", str(ROOT / "charts/mm1/values.yaml")]) == 0
    path.write_text(VALUES.replace("s3://bkt/x", "s3://B/x"))
    assert cli.main(["lint", "--values", str(path)]) == 80
    assert "schedules.good.arguments: parameter store: expected s3://bucket/prefix" in capsys.readouterr().out
