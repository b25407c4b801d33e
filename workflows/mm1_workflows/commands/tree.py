"""The command tree: what can be typed, with its help. Functions are named by path and imported when they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cappa import Arg, Subcommands, command

FileArg = Annotated[str, Arg(value_name="file", help="A workflow: file.py, file.py:object, or a YAML file.")]
FilesArg = Annotated[list[str], Arg(value_name="file", help="Workflow files [default: workflows/*.py].")]
ParameterArg = Annotated[
    list[str],
    Arg(short="-p", long="--parameter", value_name="NAME=VALUE", help="A parameter; may be repeated."),
]
ProfileArg = Annotated[str, Arg(long=True, value_name="NAME|FILE", help="Profile that the workflow is built with.")]
StoreArg = Annotated[str, Arg(long=True, value_name="URI", help="Object store: file:///folder, s3://bucket/prefix, a folder.")]
FolderArg = Annotated[Path, Arg(long="--folder", value_name="FOLDER", help="Where local runs keep logs and artifacts.")]
_COMMANDS = "mm1_workflows.commands"


@command(name="run", help="Run a workflow on this machine, with live progress.", invoke=f"{_COMMANDS}.run.run")
@dataclass
class Run:
    """``mm1 run``."""

    file: FileArg
    parameters: ParameterArg = field(default_factory=list)
    run: Annotated[str, Arg(long="--run", value_name="NAME", help="Name of the run; the same name continues it.")] = ""
    store: StoreArg = "runs/store"
    folder: FolderArg = Path("runs")
    profile: ProfileArg = "default"
    cores: Annotated[int, Arg(long=True, value_name="N", help="Cores that tasks may share [default: all].")] = 0
    no_cache: Annotated[bool, Arg(long=True, help="Do the work of every step even if its outcome is known.")] = False


@command(name="submit", help="Send a workflow to a cluster.", invoke=f"{_COMMANDS}.submit.submit")
@dataclass
class Submit:
    """``mm1 submit`` and ``hera submit``."""

    file: FileArg
    parameters: ParameterArg = field(default_factory=list)
    profile: ProfileArg = "default"
    dry_run: Annotated[
        str, Arg(long=True, value_name="client|server", help="client: print the object; server: let the cluster check it.")
    ] = ""
    server: Annotated[
        str, Arg(long=True, value_name="URL", help="Argo Server; without it the Kubernetes API of the kubeconfig is used.")
    ] = ""
    token_file: Annotated[
        Path | None, Arg(long=True, value_name="FILE", help="File with the token for Argo Server [default: $ARGO_TOKEN].")
    ] = None
    context: Annotated[str, Arg(long=True, value_name="NAME", help="Context of the kubeconfig.")] = ""
    namespace: Annotated[str, Arg(short="-n", long=True, value_name="NAME", help="Namespace [default: the context's].")] = ""
    idempotency_key: Annotated[
        str,
        Arg(long=True, value_name="TEXT", help="The same key makes one workflow, however often it is sent."),
    ] = ""


@command(name="compile", help="Write the YAML of workflow files.", invoke=f"{_COMMANDS}.compile.compile_all")
@dataclass
class Compile:
    """``mm1 compile``."""

    files: FilesArg = field(default_factory=list)
    to: Annotated[Path, Arg(long="--to", value_name="FOLDER", help="Folder of the YAML.")] = Path("workflows/compiled/argo")
    profile: ProfileArg = "default"
    check: Annotated[bool, Arg(long=True, help="Write nothing; fail when a file differs.")] = False


@command(name="lint", help="Check workflows against the rules.", invoke=f"{_COMMANDS}.lint.lint")
@dataclass
class Lint:
    """``mm1 lint``."""

    files: FilesArg = field(default_factory=list)
    profile: ProfileArg = "default"
    explain: Annotated[str, Arg(long=True, value_name="RULE", help="Explain a rule (for example P007), or `all`.")] = ""


@command(name="runs", help="List runs with state, duration and cache hits.", invoke=f"{_COMMANDS}.runs.runs")
@dataclass
class Runs:
    """``mm1 runs``."""

    run: Annotated[str, Arg(value_name="run", help="One run: its tasks [default: all runs].")] = ""
    store: StoreArg = "runs/store"
    state: Annotated[str, Arg(long=True, value_name="STATE", help="Only runs that are done, failed or running.")] = ""
    limit: Annotated[int, Arg(long=True, value_name="N", help="At most so many, newest first.")] = 20


@command(name="compare", help="Two runs side by side: parameters, losses, scores.", invoke=f"{_COMMANDS}.compare.compare")
@dataclass
class Compare:
    """``mm1 compare``."""

    first: Annotated[str, Arg(value_name="run-a", help="A run.")]
    second: Annotated[str, Arg(value_name="run-b", help="Another run.")]
    store: StoreArg = "runs/store"
    all: Annotated[bool, Arg(long=True, help="Also what is equal.")] = False


@command(name="lineage", help="What a manifest was made from, back to the raw shards.", invoke=f"{_COMMANDS}.lineage.lineage")
@dataclass
class Lineage:
    """``mm1 lineage``."""

    uri: Annotated[str, Arg(value_name="uri", help="Address or digest (or its beginning) of a manifest, or a run.")]
    store: StoreArg = "runs/store"
    html: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also draw it into an HTML file.")] = None
    dot: Annotated[Path | None, Arg(long=True, value_name="FILE", help="Also write it for Graphviz.")] = None


@command(name="gc", help="Remove what no kept run, pin or model needs from the store.", invoke=f"{_COMMANDS}.gc.collect")
@dataclass
class Gc:
    """``mm1 gc``."""

    store: StoreArg = "runs/store"
    keep: Annotated[int, Arg(long=True, value_name="N", help="Keep the N newest runs.")] = 20
    keep_run: Annotated[list[str], Arg(long=True, value_name="NAME", help="Keep this run as well; may be repeated.")] = field(
        default_factory=list
    )
    yes: Annotated[bool, Arg(long=True, help="Remove; without it only what would be removed is listed.")] = False


@command(name="serve", help="Serve a model with an OpenAI-compatible API and a chat page.", invoke=f"{_COMMANDS}.serve.serve")
@dataclass
class Serve:
    """``mm1 serve``."""

    model: Annotated[str, Arg(value_name="uri", help="Manifest or folder of a model [default: the newest deployment].")] = ""
    store: StoreArg = "runs/store"
    host: Annotated[str, Arg(long=True, value_name="ADDRESS", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Arg(long=True, value_name="N", help="Port to listen on.")] = 8000


@command(name="doctor", help="Check the set-up and say how to mend it.", invoke=f"{_COMMANDS}.doctor.doctor")
@dataclass
class Doctor:
    """``mm1 doctor``."""

    store: StoreArg = "runs/store"


@command(name="recipes", help="List the recipes of training runs.", invoke=f"{_COMMANDS}.recipes.recipes")
@dataclass
class Recipes:
    """``mm1 recipes``."""

    name: Annotated[str, Arg(value_name="recipe", help="One recipe: its whole configuration [default: list all].")] = ""


@command(name="mm1", help="MM1: multimodal pre-training from raw data to a served model.")
@dataclass
class Mm1:
    """The root of ``mm1``."""

    subcommand: Subcommands[Run | Submit | Compile | Lint | Runs | Compare | Lineage | Gc | Serve | Doctor | Recipes]


@command(name="hera", help="Hera's commands, and submit.")
@dataclass
class HeraSubmitOnly:
    """The root of ``hera`` when upstream's command tree is not where it was."""

    subcommand: Subcommands[Submit]


def hera_with(generate: type[Any]) -> type[Any]:
    """The root of ``hera``: upstream's ``generate`` and our ``submit``."""

    @command(name="hera", help="Hera's commands, and submit.")
    @dataclass
    class Hera:
        """The root of ``hera``."""

        subcommand: Any

    Hera.__annotations__["subcommand"] = Subcommands[generate | Submit]  # type: ignore[valid-type, misc] # known at run time only
    return Hera
