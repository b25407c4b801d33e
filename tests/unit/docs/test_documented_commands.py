"""Every command of the pages can be typed: commands, options, targets, workflow files, parameters and steps exist."""

from __future__ import annotations

import importlib
import importlib.util
import re

import cappa
import pytest

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import build_parser
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import name_of
from mm1_workflows.argo.graph import Graph
from mm1_workflows.authoring.load import load
from mm1_workflows.cli import completion, root
from mm1_workflows.rules.reading import read_workflow
from tests.support.documentation import NEEDS, PAGES, ROOT, Block, Command, blocks

SHELL = [block for page in PAGES for block in blocks(page) if block.language == "bash"]
COMMANDS = [command for block in SHELL for command in block.commands()]
INLINE = re.compile(r"`((?:mm1|hera) [a-z][^`\n]*)`")


@pytest.fixture(scope="module")
def workflows() -> dict[str, Graph]:
    """Every workflow by the names under which pages call it: its file, mm1:NAME, template/NAME."""
    graphs = {}
    for path in sorted((ROOT / "workflows").glob("*.py")):
        graphs[f"workflows/{path.name}"] = graphs[f"mm1:{path.stem}"] = read_workflow(load(str(path)).document)
    for path in sorted((ROOT / "charts/mm1/files/default").glob("*.yaml")):
        document = load(str(path)).document
        graphs[f"template/{name_of(document)}"] = read_workflow(document)
    return graphs


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_command_can_be_typed(command, workflows):
    checks = {"mm1": check_mm1, "hera": check_hera, "make": check_make, "python": check_python}
    if check := checks.get(command.program):
        check(command, workflows)


def test_the_pages_have_commands_and_their_needs_are_known():
    assert len(COMMANDS) > 60
    for block in SHELL:
        unknown = set(block.needs) - set(NEEDS)
        assert not unknown, f"{block.page}:{block.line}: needs {unknown}; known: {', '.join(NEEDS)}"


def test_commands_named_in_a_sentence_exist():
    for page in PAGES:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for text in INLINE.findall(line):
                program, name = text.split()[:2]
                known = root.NAMES if program == "mm1" else ("submit", "generate")
                assert name in known, f"{page.relative_to(ROOT)}:{number}: no command {program} {name}"


def check_mm1(command: Command, workflows: dict[str, Graph]) -> None:
    if not completion.script([*command.words], "mm1"):
        check_parameters(parsed(root.mm1(root.completed(command.words)), command), command, workflows)


def check_hera(command: Command, workflows: dict[str, Graph]) -> None:
    check_parameters(parsed(root.hera(), command), command, workflows)


def parsed(commands: type, command: Command) -> object:
    try:
        return cappa.parse(commands, argv=root.completed(command.words)).subcommand
    except SystemExit as end:
        assert not end.code, f"{command}\n{end}"
        return None


def check_parameters(made: object, command: Command, workflows: dict[str, Graph]) -> None:
    """The workflow of ``run`` and ``submit`` exists, and has the parameters that are given."""
    target = getattr(made, "file", None)
    if target is not None:
        assert target in workflows, f"{command}\nno workflow {target}; there are {', '.join(workflows)}"
        declared = workflows[target].parameters
        try:
            unknown = set(parameters.parse(made.parameters)) - set(declared) - {"store"}
        except ConfigurationError as error:
            pytest.fail(f"{command}\n{error}")
        assert not unknown, f"{command}\n{target} has no parameters {unknown}"
    for file in getattr(made, "files", None) or ():
        assert (ROOT / file).is_file() or file.startswith("mm1:"), f"{command}\nno file {file}"


def check_make(command: Command, workflows: dict[str, Graph]) -> None:
    """Targets and variables exist."""
    makefile = (ROOT / "Makefile").read_text()
    for word in command.words:
        variable, is_assignment, _ = word.partition("=")
        pattern = rf"\$\({variable}\)" if is_assignment else rf"(?m)^{word}:.*## "
        assert re.search(pattern, makefile), f"{command}\nMakefile has no {variable}"


def check_python(command: Command, workflows: dict[str, Graph]) -> None:
    """Modules exist, and steps have the options."""
    if command.words[:1] != ("-m",):
        return
    module, *arguments = command.words[1:]
    assert importlib.util.find_spec(module), f"{command}\nno module {module}"
    if module.startswith("mm1_components."):
        try:
            build_parser(importlib.import_module(module).STEP).parse_args(arguments)
        except SystemExit as end:
            assert not end.code, command


def test_blocks_are_read_with_their_needs_and_lines(tmp_path):
    page = ROOT / "docs" / "example.md"
    text = (
        "# A\n\n<!-- needs: cluster -->\n```bash\n"
        'A=1 .venv/bin/mm1 run x \\\n   -p a="b c" -p d=$(cat e/f) …   # why\nmm1 gc > f; echo\n```\n'
    )
    (tmp_path / "example.md").write_text(text)
    (block,) = blocks(tmp_path / "example.md")
    assert (block.needs, block.line, block.language) == (("cluster",), 5, "bash")
    first, second = Block(page, block.line, block.language, block.needs, block.text).commands()
    assert (first.program, first.words, first.where) == (
        "mm1",
        ("run", "x", "-p", "a=b c", "-p", "d=$(<e/f)"),
        "docs/example.md:5",
    )
    assert (second.program, second.words, second.where) == ("mm1", ("gc",), "docs/example.md:7")
