"""``mm1 run``: a workflow on this machine."""

from __future__ import annotations

import secrets
import shlex
import time
from datetime import UTC, datetime

from rich.console import Console

from mm1.errors import ConfigurationError, Outcome
from mm1.store.open import open_store
from mm1_workflows import graph, parameters
from mm1_workflows.commands.output import say
from mm1_workflows.commands.tree import Run
from mm1_workflows.graph import Graph
from mm1_workflows.load import load
from mm1_workflows.local import display
from mm1_workflows.local.folder import RunFolder
from mm1_workflows.local.runner import Runner, RunResult
from mm1_workflows.local.state import State

RESERVED = ("store",)


def run(command: Run) -> int:
    """Run a workflow; the exit code is the outcome class of the step that failed."""
    loaded = load(command.file, command.profile)
    workflow = graph.read(loaded.document)
    store_given = {} if any(word.startswith("store=") for word in command.parameters) else {"store": command.store}
    given = parameters.parse(command.parameters)
    values = parameters.check(workflow, given | (store_given if "store" in workflow.parameters else {}))
    store = open_store(values.get("store", command.store))
    if "store" in values:
        values["store"] = store.uri
    name = command.run or f"{workflow.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if name in RESERVED:
        raise ConfigurationError(f"run name {name!r} is reserved: choose another --run")
    again = continue_command(command, name)
    shown = Console()
    started = time.monotonic()
    with RunFolder(command.folder, name).locked() as folder:
        folder.open_run(workflow.name, values, again)
        say(shown, f"{workflow.name}: run {name} in {folder.path}, store {store.uri}")
        runner = Runner(
            workflow,
            values,
            folder,
            store,
            display.choose(shown),
            cores=command.cores or None,
            use_cache=not command.no_cache,
            profile=loaded.profile,
        )
        result = runner.run()
    _summary(shown, workflow, folder, result, again, time.monotonic() - started)
    return result.exit_code


def continue_command(command: Run, name: str) -> str:
    """The exact command that continues a run."""
    words = ["mm1", "run", command.file, "--run", name]
    for given in command.parameters:
        words += ["-p", given]
    defaults = Run(file=command.file)
    for flag, value, default in (
        ("--store", command.store, defaults.store),
        ("--folder", str(command.folder), str(defaults.folder)),
        ("--profile", command.profile, defaults.profile),
        ("--cores", str(command.cores), str(defaults.cores)),
    ):
        words += [flag, value] if value != default else []
    return shlex.join(words)


def _summary(shown: Console, workflow: Graph, folder: RunFolder, result: RunResult, again: str, seconds: float) -> None:
    lines = [""]
    spent = display.duration(seconds)
    if result.status == "Succeeded":
        hits = sum(item.state is State.CACHED for item in result.instances)
        lines.append(
            f"{workflow.name} succeeded in {spent}" + (f" ({hits} of {len(result.instances)} steps cached)" if hits else "")
        )
    elif result.status == "Stopped":
        lines.append(f"{workflow.name} was stopped after {spent}; what is finished is kept. It continues with:")
        lines.append(f"  {again}")
    lines += _failure(result, folder, again, workflow.name, spent)
    lines += _results(result, folder)
    say(shown, "\n".join(lines))


def _failure(result: RunResult, folder: RunFolder, again: str, workflow: str, spent: str) -> list[str]:
    failed = result.failed
    if failed is None or result.status == "Stopped":
        return []
    lines = [f"{workflow} failed after {spent}"]
    lines.append(f"  step  {failed.label} ({failed.outcome.name.lower().replace('_', ' ')}, exit {int(failed.outcome)})")
    lines.append("  why   " + failed.message.replace("\n", "\n        "))
    lines.append(f"  log   {folder.task(failed.key) / 'log.txt'}")
    advice = "when that is mended, it" if failed.outcome in (Outcome.CONFIGURATION, Outcome.DATA) else "it"
    lines.append(f"  {advice} continues with:\n    {again}")
    return lines


def _results(result: RunResult, folder: RunFolder) -> list[str]:
    """Where the human artifacts and the manifests are."""
    lines: list[str] = []
    deployed = False
    for item in result.instances:
        if item.state not in (State.DONE, State.CACHED):
            continue
        pages = sorted(folder.task(item.key).glob("*.html"))
        lines += [f"  report      {page}" for page in pages]
        deployed |= item.outputs.get("deployed") == "true"
    manifests = {item.label: uri for item in result.instances if (uri := item.outputs.get("manifest"))}
    width = max(map(len, manifests), default=0)
    lines += [f"  {label:<{width}}  {uri}" for label, uri in manifests.items()]
    if deployed and result.status == "Succeeded":
        lines.append("\nTalk to the model: mm1 serve")
    return lines
