"""``mm1 run``: run a workflow on this machine."""

from __future__ import annotations

import secrets
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError, Outcome
from mm1.lineage.gates import decisions
from mm1.lineage.text import count, duration, scalars, short_name
from mm1.store.open import open_store
from mm1_workflows.argo import parameters
from mm1_workflows.argo.graph import Graph
from mm1_workflows.authoring.load import load
from mm1_workflows.cli.options import DEFAULT_STORE, FileArg, FolderArg, ParameterArg, ProfileArg, StoreArg, count_option
from mm1_workflows.cli.output import console, say
from mm1_workflows.display.screen import choose
from mm1_workflows.display.view import State, reason
from mm1_workflows.engines.local.folder import RunFolder
from mm1_workflows.engines.local.runner import Runner, RunResult
from mm1_workflows.engines.local.state import Instance
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import check_braces, check_values

RESERVED = ("store",)


@command(name="run", help="Run a workflow on this machine, with live progress.")
@dataclass
class Command:
    """``mm1 run``."""

    file: FileArg
    parameters: ParameterArg = field(default_factory=list)
    run: Annotated[str, Arg(long="--run", value_name="NAME", help="Name of the run; the same name resumes it.")] = ""
    store: StoreArg = DEFAULT_STORE
    folder: FolderArg = Path("runs")
    profile: ProfileArg = "default"
    cores: Annotated[int, count_option("Cores shared by all tasks [default: all].", least=0)] = 0
    metrics_port: Annotated[
        int,
        count_option(
            "Port of this machine for the metrics of a training, in Prometheus' format [default: none].",
            least=0,
            most=65_535,
            value_name="PORT",
        ),
    ] = 0
    list: Annotated[bool, Arg(long="--list", help="Print the workflow's steps and parameters without running it.")] = False
    no_cache: Annotated[bool, Arg(long=True, help="Run every step even if its result is cached.")] = False

    def __call__(self) -> int:
        """Run a workflow; the exit code is that of the failed step's outcome class."""
        loaded = load(self.file, self.profile)
        workflow = _with_store(read_workflow(loaded.document), self.store)
        if self.list:
            say(console(), describe(workflow))
            return 0
        given = parameters.parse(self.parameters)
        check_braces(given)
        values = parameters.check(workflow, given, self.file)
        check_values(workflow, values, on_cluster=False)
        store = open_store(values.get("store", self.store))
        if "store" in values:
            values["store"] = store.uri
        name = self.run or f"{workflow.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if name in RESERVED:
            raise ConfigurationError(f"run name {name!r} is reserved: choose another --run")
        output = console()
        started = time.monotonic()
        with RunFolder(self.folder, name).locked() as folder:
            folder.open_run(workflow.name, values, continue_command(self, name))
            say(output, f"{workflow.name}: run {name} in {folder.path}, store {store.uri}")
            runner = Runner(
                workflow,
                values,
                folder,
                store,
                choose(output),
                cores=self.cores or None,
                use_cache=not self.no_cache,
                metrics_port=self.metrics_port or None,
                profile=loaded.profile,
            )
            result = runner.run()
        say(output, _summary(result, self, name, workflow, time.monotonic() - started))
        for line in decisions(store, {item.label: item.outputs for item in result.instances}):
            say(output, line)
        return result.exit_code


def _with_store(workflow: Graph, store: str) -> Graph:
    """Make this machine's store the default, in place of the profile's."""
    if "store" not in workflow.parameters:
        return workflow
    parameter = replace(workflow.parameters["store"], value=store)
    return replace(workflow, parameters=workflow.parameters | {"store": parameter})


def describe(workflow: Graph) -> str:
    """Describe the steps and parameters of a workflow."""
    width = max(map(len, workflow.tasks))
    lines = [f"steps of {workflow.name}:"]
    for name, task in workflow.tasks.items():
        after = f"after {', '.join(task.depends)}" if task.depends else "first"
        lines.append(f"  {name:<{width}}  {after}")
    if workflow.on_exit:
        lines.append(f"  {workflow.on_exit.name:<{width}}  at exit, always")
    return "\n".join([*lines, "parameters (-p name=value):", *parameters.listing(workflow)])


def continue_command(command: Command, name: str) -> str:
    """Return the command that resumes a run."""
    argv = ["mm1", "run", command.file, "--run", name]
    for item in command.parameters:
        argv += ["-p", item]
    defaults = Command(file=command.file)
    for flag, value, default in (
        ("--store", command.store, defaults.store),
        ("--folder", str(command.folder), str(defaults.folder)),
        ("--profile", command.profile, defaults.profile),
        ("--cores", str(command.cores), str(defaults.cores)),
        ("--metrics-port", str(command.metrics_port), str(defaults.metrics_port)),
    ):
        argv += [flag, value] if value != default else []
    return shlex.join(argv)


def _summary(result: RunResult, command: Command, name: str, workflow: Graph, seconds: float) -> str:
    """Format the last lines: how the run ended, where its results and logs are, and how to resume it."""
    spent = duration(seconds)
    if result.status == "Stopped":
        lines = [f"{workflow.name} was stopped after {spent}; finished steps are kept. Resume it with:"]
        lines.append(f"  {continue_command(command, name)}")
    elif result.failed:
        others = [item for item in result.instances if item.state is State.FAILED and item is not result.failed]
        lines = [f"{workflow.name} failed after {spent}", *_failure(result.failed, others, command, name)]
    else:
        hits = sum(item.state is State.CACHED for item in result.instances)
        cached = f" ({count(hits, 'step', len(result.instances))} cached)" if hits else ""
        lines = [f"{workflow.name} succeeded in {spent}{cached}", *_outputs(result), *_tolerated(result)]
    single = [item for item in result.instances if item.item is None]
    pages = [page for item in single for page in sorted((command.folder / name / item.key).glob("*.html"))]
    lines += ["", *(f"{page.stem}: {page}" for page in pages)] if pages else []
    if not result.failed and any(item.outputs.get("deployed") == "true" for item in result.instances):
        store = "" if command.store == Command(file="").store else f" --store {shlex.quote(command.store)}"
        lines.append(f"talk to the model: mm1 serve{store}")
    return "\n".join(["", *lines])


def _failure(failed: Instance, others: Sequence[Instance], command: Command, name: str) -> list[str]:
    """Format the failed task, the cause, its log, other tasks that failed, and how to resume."""
    outcome, message = failed.ending.outcome, failed.ending.message
    condition = "after fixing it, " if outcome in (Outcome.CONFIGURATION, Outcome.DATA) else ""
    return [
        f"  step  {short_name(failed.label)} ({outcome.label}, exit code {int(outcome)})",
        "  why   " + message.replace("\n", "\n        "),
        f"  log   {command.folder / name / failed.key / 'log.txt'}",
        *(f"  also  {short_name(item.label)}: {reason(item.ending).splitlines()[0]}" for item in others),
        f"  {condition}resume with:",
        f"    {continue_command(command, name)}",
    ]


def _tolerated(result: RunResult) -> list[str]:
    """One line per item that ended without a result and did not stop the run."""
    failures = {short_name(item.label): failure for item in result.instances if (failure := item.outputs.get("failure"))}
    return ["", *(f"without a result: {label}: {failure}" for label, failure in failures.items())] if failures else []


def _outputs(result: RunResult) -> list[str]:
    """One line per step with outputs: the address of its manifest, then its scalars. Items of a loop are counted."""
    outputs = {short_name(item.label): item.outputs for item in result.instances if item.outputs and item.item is None}
    loops = Counter(item.task.name for item in result.instances if item.item is not None)
    outputs |= {name: {"items": str(number)} for name, number in loops.items()}
    width = max(map(len, outputs), default=0)
    return [
        f"  {label:<{width}}  {' '.join(filter(None, (values.get('manifest'), scalars(values))))}"
        for label, values in outputs.items()
    ]
