"""``mm1 submit`` and ``hera submit``: submit a workflow and, with ``--watch`` or ``--logs``, follow it to completion."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1_components.ranks.jobset.names import ARGO
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import TEMPLATE_LABEL, Document, name_of, parameters_of, spec_of
from mm1_workflows.argo.graph import Graph, read_parameter
from mm1_workflows.argo.shape import without_nulls
from mm1_workflows.authoring.load import load
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.cli.options import ClusterOptions, LogsArg, ParameterArg, ProfileArg, WatchArg, choices, complete_workflow
from mm1_workflows.cluster.transport.base import Transport, with_key
from mm1_workflows.engines.yaml import to_yaml
from mm1_workflows.rules.policy import check_before_sending
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import check_braces, check_values

TEMPLATE = "template/"
"""Prefix of a target that is a WorkflowTemplate on the cluster."""


@command(name="submit", help="Submit a workflow to a cluster.")
@dataclass
class Command(ClusterOptions):
    """``mm1 submit`` and ``hera submit``."""

    file: Annotated[
        str,
        Arg(
            value_name="file",
            help="Workflow: file.py, file.py:object, a YAML file, mm1:NAME, or template/NAME on the cluster.",
            completion=complete_workflow,
        ),
    ]
    parameters: ParameterArg = field(default_factory=list)
    profile: ProfileArg = "default"
    dry_run: Annotated[
        str,
        Arg(
            long=True,
            value_name="client|server",
            help="client: print the object; server: validate it on the cluster.",
            completion=choices(("client", "server")),
        ),
    ] = ""
    watch: WatchArg = False
    logs: LogsArg = False
    idempotency_key: Annotated[
        str,
        Arg(long=True, value_name="TEXT", help="Create only one workflow for submissions with the same key."),
    ] = ""

    def __call__(self) -> int:
        """Check the workflow, then print it, validate it on the server, or create it."""
        if self.dry_run not in ("", "client", "server"):
            raise ConfigurationError(f"--dry-run: expected client or server, got {self.dry_run!r}")
        transport: Transport | None = None
        profile: Profile | None = None
        if self.file.startswith(TEMPLATE):
            transport = _connect(self)
            document = from_template(transport, self.file.removeprefix(TEMPLATE), self.parameters)
        else:
            document, profile = from_file(self)
        if self.idempotency_key:
            document = with_key(document, self.idempotency_key)
        if self.dry_run == "client":
            sys.stdout.write(to_yaml(document, allow_unicode=sys.stdout.encoding.lower().startswith("utf")))
            return 0
        return send(transport or _connect(self), document, self, profile)


def send(transport: Transport, document: Document, command: Command, profile: Profile | None) -> int:
    """Create the workflow and, with ``--watch`` or ``--logs``, follow it.

    Args:
        transport: the cluster.
        document: the workflow.
        command: the options.
        profile: the profile that it was made with; None for a template of the cluster.
    """
    from mm1_workflows.cli.output import console, say  # rich: not for a dry run on the client

    output = console()
    result = transport.create(document, dry_run=command.dry_run == "server")
    if command.dry_run:
        say(output, f"the cluster accepts {name_of(document)} in namespace {result.namespace}")
        return 0
    verb = "submitted" if result.created else "was already submitted"
    say(output, f"{result.name} {verb}, namespace {result.namespace}")
    if profile and (text := _forecast_warning(document, profile)):
        say(output, text)
    if not (command.watch or command.logs):
        say(output, f"follow it with `mm1 watch {result.name} {transport.options}`")
        return 0
    from mm1_workflows.cluster.following.follow import follow

    return follow(transport, result.name, output, watch=command.watch, logs=command.logs)


def _forecast_warning(document: Document, profile: Profile) -> str:
    from mm1_workflows.cli.commands.submit_forecast import warning

    spec = spec_of(document)
    values = {item["name"]: str(item.get("value") or "") for item in parameters_of(spec)}
    limit = spec.get("activeDeadlineSeconds")
    return "" if limit is None else warning(values, profile, int(limit))


def from_file(command: Command) -> tuple[Document, Profile]:
    """Return the object to submit, after checking it and its parameters, and the profile that it was made with.

    Raises:
        ConfigurationError: the workflow or a parameter is invalid.
    """
    loaded = load(command.file, command.profile)
    workflow = read_workflow(loaded.document)
    given = parameters.parse(command.parameters)
    check_braces(given)
    values = parameters.check(workflow, given, command.file)
    check_values(workflow, values, on_cluster=True)
    check_before_sending(loaded.document, loaded.profile)
    return parameters.apply(loaded.document, values), loaded.profile


def from_template(transport: Transport, name: str, given: list[str]) -> Document:
    """Return a workflow that runs a WorkflowTemplate of the cluster, after checking its parameters.

    Raises:
        ConfigurationError: there is no such template, or a parameter is invalid.
    """
    from mm1_workflows.rules.finding import PolicyError

    template = without_nulls(transport.template(name))
    try:
        workflow = read_workflow(template)
    except PolicyError:  # another project's template may be outside the subset: only names are checked, not types
        workflow = _names_only(template)
    chosen = parameters.parse(given)
    check_braces(chosen)
    check_values(workflow, parameters.check(workflow, chosen), on_cluster=True)
    arguments = [{"name": key, "value": value} for key, value in chosen.items()]
    return {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": {
            "generateName": f"{name}-",
            "labels": {"app.kubernetes.io/part-of": "mm1", TEMPLATE_LABEL: name},
        },
        "spec": {
            "workflowTemplateRef": {"name": name},
            **({"arguments": {"parameters": arguments}} if arguments else {}),
        },
    }


def _names_only(template: Document) -> Graph:
    declared = parameters_of(spec_of(template))
    texts = {item["name"]: read_parameter(item) for item in declared}
    return Graph(name_of(template), texts, {})


def _connect(command: Command) -> Transport:
    from mm1_workflows.cluster.transport.connect import connect

    return connect(command)
