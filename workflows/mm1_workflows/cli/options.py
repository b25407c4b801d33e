"""Options shared by several commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cappa import Arg, Completion

from mm1.config.values import local_path
from mm1.store.address import BUCKET_SCHEME
from mm1.store.base import Store
from mm1.store.open import find_store
from mm1_workflows.authoring import pipelines

DEFAULT_STORE = "runs/store"
WORKFLOW_SUFFIXES = (".py", ".yaml", ".yml", ".json")


def existing_store(uri: str) -> Store:
    """Return the store that a command reads; the default store may be missing, and is not created.

    Raises:
        ConfigurationError: there is no such store.
    """
    return find_store(uri, or_none_yet=uri == DEFAULT_STORE)


class PathCompletion(Completion):
    """A completion candidate that is a file or a folder."""


def complete_path(partial: str, suffixes: tuple[str, ...] = ("",)) -> list[Completion]:
    """Return the completion candidates for a path: folders, and files with one of the suffixes.

    Args:
        partial: the text typed so far.
        suffixes: suffixes with the dot; an empty one for any file.
    """
    stem = partial.rpartition("/")[2]
    prefix = partial[: len(partial) - len(stem)]
    base = Path(prefix or ".").expanduser()
    if not base.is_dir():
        return []
    matches = sorted(item for item in base.iterdir() if item.name.startswith(stem) and (stem or item.name[0] != "."))
    return [
        PathCompletion(f"{prefix}{item.name}{'/' if item.is_dir() else ''}")
        for item in matches
        if item.is_dir() or item.name.endswith(suffixes)
    ]


Given = dict[str, str]
"""Field of a command -> the last value for it on the command line before the word being typed; flags are empty."""


@dataclass(frozen=True)
class FromLine:
    """A completion that depends on the rest of the command line."""

    candidates: Callable[[str, Given], list[Completion]]

    def __call__(self, partial: str) -> list[Completion]:
        """Return the candidates without the rest of the command line."""
        return self.candidates(partial, {})


def choices(names: Sequence[str]) -> Callable[[str], list[Completion]]:
    """Return a completion with fixed candidates."""
    return lambda partial: [Completion(name) for name in names]


def complete_run(partial: str, given: Given) -> list[Completion]:
    """Return the candidates for a run: the names of those with records in a store on this machine."""
    store = given.get("store") or DEFAULT_STORE
    folder = local_path(store) / "runs" if not store.startswith(BUCKET_SCHEME) else None
    if folder is None or not folder.is_dir():
        return []
    return [Completion(path.name) for path in sorted(folder.iterdir()) if path.name.startswith(partial)]


def complete_parameter(partial: str, given: Given) -> list[Completion]:
    """Return the candidates for ``NAME=VALUE``: parameters of the workflow file before it, or paths after the ``=``."""
    from mm1_workflows.authoring.parameter_names import parameter_names

    name, equals, value = partial.partition("=")
    if equals:
        return [PathCompletion(f"{name}={item.value}") for item in complete_path(value)]
    return [Completion(f"{known}=") for known in (parameter_names(given["file"]) if "file" in given else [])]


def complete_workflow(partial: str) -> list[Completion]:
    """Return the completion candidates for a workflow: files, folders and packaged pipelines."""
    packaged = [f"{pipelines.PREFIX}{name}" for name in pipelines.names()]
    return [*complete_path(partial, WORKFLOW_SUFFIXES), *(Completion(name) for name in packaged if name.startswith(partial))]


def count_option(help: str, *, least: int, most: int = sys.maxsize, value_name: str = "N") -> Arg[int]:
    """Declare an option that is an integer within limits; other values are usage errors (exit code 2).

    Args:
        help: help text; if it names the default, the value is not printed.
        least: minimum.
        most: maximum.
        value_name: name of the value in the help.
    """

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None
        if number is None or not least <= number <= most:
            bounds = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
            raise ValueError(f"expected an integer {bounds}, got {text!r}")
        return number

    return Arg(long=True, value_name=value_name, help=help, parse=parse, show_default="[default" not in help)


def stored_run(help: str) -> Arg[str]:
    """Declare an argument that is a run in the store, completed with the names of runs."""
    return Arg(value_name="run", help=help, completion=FromLine(complete_run))


FileArg = Annotated[
    str,
    Arg(
        value_name="file",
        help="Workflow: file.py, file.py:object, a YAML file, or mm1:NAME (mm1:full).",
        completion=complete_workflow,
    ),
]
FilesArg = Annotated[
    list[str],
    Arg(value_name="file", help="Workflow files, or mm1:NAME [default: workflows/*.py].", completion=complete_workflow),
]
ParameterArg = Annotated[
    list[str],
    Arg(
        short="-p",
        long="--parameter",
        value_name="NAME=VALUE",
        help="Workflow parameter; may be repeated.",
        completion=FromLine(complete_parameter),
    ),
]
ProfileArg = Annotated[str, Arg(long=True, value_name="NAME|FILE", help="Profile to build the workflow with.")]
StoreArg = Annotated[
    str, Arg(long=True, value_name="URI", help="Object store: file:///folder, s3://bucket/prefix, or a folder.")
]
FolderArg = Annotated[Path, Arg(long="--folder", value_name="FOLDER", help="Folder for logs and artifacts of local runs.")]
RunArg = Annotated[str, Arg(value_name="run", help="Name of the run (the workflow's name on the cluster).")]
WatchArg = Annotated[bool, Arg(long=True, help="Follow the run to completion with a table of its tasks.")]
LogsArg = Annotated[bool, Arg(long=True, help="Follow the run to completion with all logs, each line with its step.")]


@dataclass(kw_only=True)
class ClusterOptions:
    """Options of commands that connect to a cluster."""

    namespace: Annotated[str, Arg(short="-n", long=True, value_name="NAME", help="Namespace [default: the context's].")] = ""
    context: Annotated[str, Arg(long=True, value_name="NAME", help="Context of the kubeconfig [default: the current one].")] = (
        ""
    )
    server: Annotated[
        str, Arg(long=True, value_name="URL", help="Address of Argo Server [default: the Kubernetes API of the kubeconfig].")
    ] = ""
    token_file: Annotated[
        Path | None, Arg(long=True, value_name="FILE", help="File with the token for Argo Server [default: $ARGO_TOKEN].")
    ] = None
