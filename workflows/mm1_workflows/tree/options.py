"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cappa import Arg

FileArg = Annotated[str, Arg(value_name="file", help="A workflow: file.py, file.py:object, or a YAML file.")]
FilesArg = Annotated[list[str], Arg(value_name="file", help="Workflow files [default: workflows/*.py].")]
ParameterArg = Annotated[
    list[str],
    Arg(short="-p", long="--parameter", value_name="NAME=VALUE", help="A parameter; may be repeated."),
]
ProfileArg = Annotated[str, Arg(long=True, value_name="NAME|FILE", help="Profile that the workflow is built with.")]
StoreArg = Annotated[str, Arg(long=True, value_name="URI", help="Object store: file:///folder, s3://bucket/prefix, a folder.")]
FolderArg = Annotated[Path, Arg(long="--folder", value_name="FOLDER", help="Where local runs keep logs and artifacts.")]
COMMANDS = "mm1_workflows.commands"
"""Where the functions are; they are imported when they run."""
