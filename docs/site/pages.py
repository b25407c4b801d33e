"""Pages of the site that are made from the code: home, contributing, changelog, commands, steps, Python API."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mkdocs_gen_files

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
"""Environment of a command whose output is text for a page."""
PYTHON_API = {
    "Model": ["mm1.modeling.configuration", "mm1.modeling.modeling", "mm1.modeling.processing", "mm1.modeling.connectors"],
    "Generation and evaluation": ["mm1.generation.generator", "mm1.evals.harness"],
    "Manifests, store and lineage": ["mm1.manifests", "mm1.store.base", "mm1.lineage.records", "mm1.lineage.compare"],
    "Configuration": ["mm1.train.config", "mm1.recipes.registry", "mm1.config.resolve"],
    "Steps": ["mm1_components.wrapper.declaration", "mm1_components.wrapper.execute"],
    "Workflow files": ["mm1_workflows.authoring.tasks", "mm1_workflows.authoring.shared_parameters"],
    "Failures": ["mm1.errors"],
}
"""Modules that people import, by what they want."""


def _help(*command: str) -> str:
    text = subprocess.run(
        [sys.executable, "-m", *command, "--help"], env=PLAIN, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", text.stdout).strip()


def _write(path: str, text: str) -> None:
    with mkdocs_gen_files.open(path, "w") as file:
        file.write(text)


def _helps(path: str, title: str, intro: str, commands: dict[str, list[str]]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = list(pool.map(lambda command: _help(*command), commands.values()))
    sections = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in zip(commands, texts, strict=True)]
    _write(path, "\n".join([f"# {title}\n", f"{intro}\n", *sections]))


def _copied(source: str, path: str) -> None:
    """A page of the repository's root, with its links turned into the site's."""
    _write(path, re.sub(r"\]\(docs/", "](", (ROOT / source).read_text()).replace("](CONTRIBUTING.md", "](contributing.md"))


def _linked(page: Path) -> None:
    """A page of ``docs`` that links to CONTRIBUTING.md, which is a page of the site at another address."""
    text = page.read_text()
    if "../CONTRIBUTING.md" in text:
        _write(
            str(page.relative_to(ROOT / "docs")), re.sub(r"\]\(((?:\.\./)*)\.\./CONTRIBUTING\.md", r"](\1contributing.md", text)
        )


def _steps() -> list[str]:
    folder = ROOT / "components" / "mm1_components"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def _commands() -> tuple[str, ...]:
    from mm1_workflows.cli.root import NAMES

    return NAMES


def _python() -> str:
    parts = ["# Python API\n", "Made from the docstrings. What is not listed here may change without notice.\n"]
    for title, modules in PYTHON_API.items():
        parts += [f"## {title}\n", *(f"::: {module}\n    options:\n      heading_level: 3\n" for module in modules)]
    return "\n".join(parts)


_copied("README.md", "index.md")
_copied("CONTRIBUTING.md", "contributing.md")
_copied("CHANGELOG.md", "changelog.md")
for example in (ROOT / "examples").rglob("*.py"):
    _write(example.relative_to(ROOT).as_posix(), example.read_text())
for page in (ROOT / "docs").rglob("*.md"):
    _linked(page)
_helps(
    "reference/cli.md",
    "Commands",
    "What `mm1 COMMAND --help` prints. `hera submit` is `mm1 submit` under another name.",
    {f"mm1 {name}": ["mm1_workflows.cli", name] for name in _commands()},
)
_helps(
    "reference/steps.md",
    "Steps",
    "What `python -m mm1_components.STEP --help` prints: the inputs of each step, which are its parameters in a workflow file.",
    {name: [f"mm1_components.{name}"] for name in _steps()},
)
_write("reference/python.md", _python())
