"""The names of a workflow's parameters, read from the source of its file: for shell completion, which must not run the file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mm1_workflows.argo import yaml_file
from mm1_workflows.argo.document import parameters_of, spec_of
from mm1_workflows.authoring import pipelines

WORKFLOWS = ("Workflow", "WorkflowTemplate", "CronWorkflow", "ClusterWorkflowTemplate")
STORE = "store"
"""A parameter that every workflow file gets."""
PACKAGE = "mm1_workflows."


def parameter_names(target: str) -> list[str]:
    """Return the names of a workflow's parameters in their order; names that only running the file would show are missing.

    Args:
        target: ``file.py``, ``file.py:name``, a YAML file, or ``mm1:NAME``.

    Raises:
        ConfigurationError, OSError, SyntaxError: the file cannot be read.
    """
    path = Path(pipelines.file_of(target).partition(":")[0])
    if path.suffix != ".py":
        documents = yaml_file.read_documents(path, f"workflow file {path}")
        return [str(item["name"]) for document in documents for item in parameters_of(spec_of(document))]
    module = _Module(path)
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and _name(node.func) in WORKFLOWS]
    lists = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "arguments"]
    return list(dict.fromkeys([*(name for item in lists for name in module.names(item)), STORE]))


class _Module:
    """The parsed source of a file, with the values of its names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        self.values: dict[str, ast.expr] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                self.values |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self.values[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imported |= {item.asname or item.name: (node.module, item.name) for item in node.names}

    def names(self, value: ast.expr) -> Iterator[str]:
        """Yield the names of the parameters in an expression."""
        if isinstance(value, ast.Call):
            given = [keyword.value for keyword in value.keywords if keyword.arg == "name"]
            yield from (item.value for item in given if isinstance(item, ast.Constant) and isinstance(item.value, str))
        elif isinstance(value, ast.List | ast.Tuple):
            for item in value.elts:
                yield from self.names(item)
        elif isinstance(value, ast.Starred):
            yield from self.names(value.value)
        elif isinstance(value, ast.Name) and value.id in self.values:
            yield from self.names(self.values[value.id])
        elif isinstance(value, ast.Name) and value.id in self.imported:
            module, name = self.imported[value.id]
            if file := self._file_of(module):
                yield from _Module(file).names(ast.Name(name))

    def _file_of(self, module: str) -> Path | None:
        """Return the file of a module of this package or in the folder of the file."""
        below = Path(*module.split(".")).with_suffix(".py")
        folder = Path(__file__).parents[2] if module.startswith(PACKAGE) else self.path.parent
        return folder / below if (folder / below).is_file() else None


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
