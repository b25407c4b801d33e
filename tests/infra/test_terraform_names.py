"""Names in the Terraform files: variables, locals and outputs that are used exist, and modules get what they require.

`terraform validate` checks more, but needs the providers; this runs everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[2] / "infra/terraform"
FOLDERS = sorted({path.parent for path in INFRA.glob("**/*.tf") if ".terraform" not in path.parts})
BLOCK = re.compile(
    r'^(?P<kind>variable|output|module|locals|resource|data)(?P<labels>(?: "[\w-]+")*) \{\n(?P<body>.*?)^\}', re.M | re.S
)
ARGUMENT = re.compile(r"^  (\w+) += ", re.M)
META = {"source", "providers", "depends_on", "for_each", "count", "version"}


@dataclass(frozen=True)
class Module:
    """What a folder declares; bodies by name."""

    text: str
    variables: dict[str, str]
    outputs: dict[str, str]
    modules: dict[str, str]
    resources: frozenset[str]
    locals: frozenset[str]


@cache
def read(folder: Path) -> Module:
    text = "\n".join(re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.M) for path in sorted(folder.glob("*.tf")))
    text = re.sub(r'^(data "\w+" "\w+") \{\}$', r"\1 {\n}", text, flags=re.M)
    found: dict[str, dict[str, str]] = {kind: {} for kind in ("variable", "output", "module", "resource", "data")}
    names: set[str] = set()
    for block in BLOCK.finditer(text):
        labels = re.findall(r'"([\w-]+)"', block["labels"])
        if block["kind"] == "locals":
            names.update(ARGUMENT.findall(block["body"]))
        else:
            found[block["kind"]][".".join(labels)] = block["body"]
    resources = frozenset([*found["resource"], *(f"data.{name}" for name in found["data"])])
    return Module(text, found["variable"], found["output"], found["module"], resources, frozenset(names))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(INFRA)))
def test_names_exist(folder: Path) -> None:
    module = read(folder)
    used = set(re.findall(r"\bvar\.(\w+)", module.text))
    assert used == set(module.variables), "variables used and declared"
    assert set(re.findall(r"\blocal\.(\w+)", module.text)) == module.locals, "locals used and declared"
    references = set(re.findall(r"(?<![\w.\"/-])((?:data\.)?(?:google|aws|helm)_\w+\.\w+)", module.text))
    assert references <= module.resources, "resources used and declared"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(INFRA)))
def test_modules_get_what_they_require_and_give_what_is_used(folder: Path) -> None:
    caller = read(folder)
    for name, body in caller.modules.items():
        source = re.search(r'source += "([^"]+)"', body)
        assert source
        called = read((folder / source[1]).resolve())
        required = {variable for variable, text in called.variables.items() if not re.search(r"^  default +=", text, re.M)}
        given = set(ARGUMENT.findall(body)) - META
        assert required <= given <= set(called.variables), name
        assert set(re.findall(rf"\bmodule\.{name}\.(\w+)", caller.text)) <= set(called.outputs), name
