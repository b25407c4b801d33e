"""The command line of a step, generated from its declaration.

Every input is an option with its type, unit and default in ``--help``. The options that engines add (``--store``, ``--run``,
``--task``, ``--out.<name>``, ``--artifact.<name>``) are the same for every step.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from mm1.monitoring.logs import LogFormat
from mm1_components.wrapper.declaration import Step

SOURCE = "source"
MANIFEST = "manifest"
PLACEMENT = "placement"
LAUNCHER_FLAG = "--launcher"
METRICS_FLAG = "--metrics-port"
LOG_FORMAT_FLAG = "--log-format"

ManifestUri = Annotated[str, Field(json_schema_extra={"role": MANIFEST})]
"""The address of a manifest."""

Placement = Annotated[str, Field(json_schema_extra={"role": PLACEMENT})]
"""Where the work runs; it does not affect the result, so it is not part of the cache key."""


Limit = Annotated[str, Field(json_schema_extra={"decisive": False})]
"""How much of something the work may use; like :data:`Placement`, it does not affect the result."""


def role_of(info: FieldInfo) -> str:
    """Return ``source``, ``manifest`` or ``placement``; an empty string for a plain value."""
    extra = info.json_schema_extra
    return str(extra.get("role", "")) if isinstance(extra, dict) else ""


def source_fields(model: type[BaseModel]) -> list[str]:
    """Return the names of the inputs that are raw files and affect the result."""
    return [name for name, info in model.model_fields.items() if role_of(info) == SOURCE and _is_decisive(info)]


def placement_fields(model: type[BaseModel]) -> list[str]:
    """Return the names of the inputs that do not affect the result: where the work runs, where its files are, limits."""
    return [name for name, info in model.model_fields.items() if role_of(info) == PLACEMENT or not _is_decisive(info)]


def _is_decisive(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return not isinstance(extra, dict) or extra.get("decisive") is not False


def type_name(info: FieldInfo) -> str:
    """Return the type for help texts: text, integer, number, true|false, path, manifest."""
    role, extra = role_of(info), cast(dict[str, Any], info.json_schema_extra)
    if role and role != PLACEMENT:
        return "|".join(extra["reads"]) if role == SOURCE else MANIFEST
    names: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true|false"}
    return names.get(info.annotation, str(info.annotation).replace("typing.", "").replace("Literal", "one of "))


def flag_of(name: str) -> str:
    """Return the option of an input: ``num_eval_items`` -> ``--num-eval-items``."""
    return "--" + name.replace("_", "-")


def build_parser(step: Step[Any, Any]) -> argparse.ArgumentParser:
    """Build the argument parser of a step."""
    parser = argparse.ArgumentParser(prog=f"python -m {step.module}", description=step.summary, allow_abbrev=False)
    inputs = parser.add_argument_group("inputs")
    for name, info in step.inputs.model_fields.items():
        required = info.is_required()
        default = "required" if required else f"default: {_format_default(info.default)}"
        description = f"{info.description or ''} [{type_name(info)}; {default}]".replace("%", "%%")
        inputs.add_argument(flag_of(name), dest=f"input.{name}", required=required, metavar="VALUE", help=description)
    if "overrides" in step.inputs.model_fields:
        inputs.add_argument(
            "--set",
            dest="set",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="override of a recipe field, for example train.steps=20; may be repeated",
        )
    outputs = parser.add_argument_group("outputs (files read by engines)")
    for name, info in step.outputs.model_fields.items():
        outputs.add_argument(f"--out.{name}", type=Path, metavar="PATH", help=info.description)
    for name in step.artifacts:
        outputs.add_argument(f"--artifact.{name}", type=Path, metavar="PATH", help=f"file to write {name} to")
    running = parser.add_argument_group("running")
    running.add_argument(
        "--store",
        default="runs/store",
        metavar="URI",
        help="file:// or s3:// address, or a folder [default: runs/store]",
    )
    running.add_argument(
        "--run",
        default="manual",
        metavar="NAME",
        help="name of the run in the run record; all steps started without it share one run [default: manual]",
    )
    running.add_argument(
        "--task", default="", metavar="NAME", help="name of the task within the run [default: the step's name]"
    )
    running.add_argument(
        "--work", type=Path, metavar="FOLDER", help="folder for scratch files [default: the system's temporary folder]"
    )
    running.add_argument("--progress", type=Path, metavar="PATH", help="file to write progress to, as done/total")
    if step.distributed:
        running.add_argument(
            LAUNCHER_FLAG,
            metavar="JSON",
            help="how to start the ranks on a cluster [default: on this machine, with torchrun]",
        )
        running.add_argument(
            METRICS_FLAG,
            type=int,
            metavar="PORT",
            help="port of 127.0.0.1 for metrics in Prometheus' format, if the ranks run on this machine [default: none]",
        )
    running.add_argument(
        LOG_FORMAT_FLAG, choices=get_args(LogFormat), default="text", help="text, or one JSON object per line [default: text]"
    )
    running.add_argument("--no-cache", action="store_true", help="run the step even if its result is cached")
    running.add_argument(
        "--once",
        action="store_true",
        help="exit immediately if this task already failed permanently (for engines that retry every failure)",
    )
    return parser


def _format_default(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "empty" if default == "" else str(default)


def input_values(step: Step[Any, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the given inputs, as text; omitted inputs keep their defaults."""
    values = {name: value for name in step.inputs.model_fields if (value := getattr(arguments, f"input.{name}")) is not None}
    extra = getattr(arguments, "set", [])
    if extra:
        values["overrides"] = f"{values.get('overrides', '')} {shlex.join(extra)}".strip()
    return values
