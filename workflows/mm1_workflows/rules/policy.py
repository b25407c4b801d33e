"""Rules for workflows, each with an id and an explanation: ``mm1 lint``, ``mm1 lint --explain P007``.

P001 to P008 define the subset of Argo that all engines support (:mod:`mm1_workflows.rules.subset`); a workflow that violates
one does not run on any engine. P009 and later concern reliability and security on a cluster (:mod:`mm1_workflows.rules.pods`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import Document, name_of
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules import cron, names, subset, values
from mm1_workflows.rules import pods as pod_rules
from mm1_workflows.rules.finding import Finding, PolicyError


@dataclass(frozen=True)
class Rule:
    """A rule."""

    id: str
    title: str
    why: str
    remedy: str
    check: Callable[[Document, Profile], Iterable[Finding]] | None = None
    """None: checked together with the other rules of the subset."""
    before_sending: bool = False
    """Whether `submit` rejects violations, because the cluster would reject them later."""


RULES = (
    Rule(
        "P001",
        "the entrypoint is a DAG that exists",
        "Argo accepts a missing name and only fails at run time; other engines only support DAGs.",
        "set `entrypoint` to the DAG.",
    ),
    Rule(
        "P002",
        "only fields that all engines support",
        "If an engine ignores a field, the same file behaves differently on a laptop, on Argo and on Kubeflow.",
        "use container templates in one DAG, output parameters read from files, and the fields in the message.",
    ),
    Rule(
        "P003",
        "dependencies are a plain conjunction without cycles",
        "Only `a && b` has the same meaning on every engine; Kubeflow has no equivalent of `||` and `.Failed`.",
        "write `a >> c` and `b >> c`.",
    ),
    Rule(
        "P004",
        "a reference to an output is also a dependency",
        "A reference to a task's output does not make Argo wait for the task: it fails with an unresolved reference. Tasks of "
        "Hera get the dependency when the workflow is built, so this rule concerns YAML files.",
        "add the producer to the task's `depends`.",
    ),
    Rule(
        "P005",
        "all references exist",
        "An unresolved reference is passed to the step as text with braces, possibly hours later.",
        "declare the workflow parameter, the input or the output, or correct its name.",
    ),
    Rule(
        "P006",
        "`when` compares one output with a literal; tasks that depend on a conditional task have the same `when`",
        "Kubeflow has no dependencies on tasks inside a condition, and a skipped task has no outputs. Without quotes, Argo "
        "reads numbers and computes `needs-work`, where other engines compare text.",
        "write '{{tasks.a.outputs.parameters.b}}' == 'text' and repeat the condition, or better: make the decision an input "
        "of the step (deploy(decision=...)).",
    ),
    Rule(
        "P007",
        "loops run over a JSON list of strings",
        "Engines pass items that are objects or numbers in different ways.",
        'pass names or addresses: with_items=["a", "b"], or an output that is a JSON list of strings.',
    ),
    Rule(
        "P008",
        "one exit task, which only gets the status",
        "At exit, outputs of tasks may not exist, and Kubeflow allows a single exit task.",
        "let the exit task read the run's records from the store, as `report` does.",
    ),
    Rule(
        "P009",
        "every container has an explicit command",
        "Without it, Argo looks up the image's entrypoint in the registry, which fails behind a proxy or without credentials.",
        'command=["python", "-m", ...].',
        pod_rules.explicit_command,
    ),
    Rule(
        "P010",
        "images are pinned by digest",
        "A tag can be moved between two tasks of a run, so that the record refers to code that did not run. (A warning in the "
        "default profile, whose digests come with a release, and for local images, which cannot change in a registry.)",
        "set image@sha256:... in the profile, for example with `make images REGISTRY=... PROFILE=...`.",
        pod_rules.pinned_images,
    ),
    Rule(
        "P011",
        "run time is limited",
        "A hanging pod occupies its node until someone notices. (A training step may have no limit: its supervisor watches the "
        "ranks, and `mm1 submit` compares the forecast of a run with its limit.)",
        "set active_deadline_seconds of the template (set by the hooks unless removed).",
        pod_rules.bounded_time,
    ),
    Rule(
        "P012",
        "retries depend on the outcome class",
        "Retrying an invalid parameter (80) wastes GPU hours; not retrying after a lost node (85) loses the run.",
        "leave retry_strategy to the hooks, or use their expression with a limit.",
        pod_rules.retry_by_class,
    ),
    Rule(
        "P013",
        "security contexts are restricted",
        "Namespaces that enforce the Pod Security Standard `restricted` reject other pods.",
        "leave security contexts to the hooks.",
        pod_rules.restricted,
    ),
    Rule(
        "P014",
        "no secrets in arguments or environment variables",
        "Everyone who can read workflows can read arguments and values, and they are archived.",
        "use the profile's environment_secret, or env from a Secret.",
        pod_rules.no_secrets,
    ),
    Rule(
        "P015",
        "limits are set and equal to the requests",
        "Without limits, a step can evict others from its node; on GPU nodes, pods whose requests differ from their limits are "
        "evicted first.",
        "leave resources to the profile's pool.",
        pod_rules.limits,
    ),
    Rule(
        "P016",
        "the grace period is long enough to save",
        "A step writes its checkpoint after SIGTERM, for which Kubernetes' default of 30 s is too short.",
        "set the step's grace_s: at least 60 s, and 300 s for training on GPUs (passed to the ranks in --launcher).",
        pod_rules.grace,
    ),
    Rule(
        "P017",
        "a workflow parameter has one type",
        "-p and the engines' forms check values by type. A parameter that feeds an integer and a path cannot be checked.",
        "use two parameters.",
        pod_rules.one_type,
    ),
    Rule(
        "P018",
        "retries have a maximum wait, not a maximum duration",
        "Argo counts maxDuration from a step's first start: a step that ran longer would never be retried.",
        "backoff: {duration: 5s, factor: 2, cap: 2m}.",
        pod_rules.capped_waits,
    ),
    Rule(
        "P019",
        "the launcher can be parsed",
        "The supervisor reads --launcher when it starts, possibly after hours in a queue; a typo would only show then.",
        "leave --launcher to the step's template, which generates it from the profile.",
        pod_rules.readable_launcher,
    ),
    Rule(
        "P020",
        "names are valid in Kubernetes",
        "A workflow's name becomes a label of its pods (at most 63 characters), and pods are named after it and the template. "
        "Kubernetes only rejects an invalid name when the workflow or its first pod is created.",
        "use lower-case letters, digits and dashes.",
        names.valid_names,
        before_sending=True,
    ),
    Rule(
        "P021",
        "schedules are valid in Argo",
        "The controller never runs a CronWorkflow that it cannot parse.",
        'schedules: ["0 3 * * 6"], a time zone such as Europe/Berlin, a concurrencyPolicy of Allow, Forbid or Replace.',
        cron.valid_schedule,
        before_sending=True,
    ),
    Rule(
        "P022",
        "values are valid inputs of the steps",
        "The step rejects an unknown recipe or an inconsistent size, on a cluster possibly after hours.",
        "correct the default or the literal in the message.",
        values.valid_values,
    ),
)


def check(document: Document, profile: Profile) -> list[Finding]:
    """Return all findings of a built workflow; only those of the subset if there are any."""
    findings = subset.check(document)
    if findings:
        return findings
    return [finding for rule in RULES if rule.check for finding in rule.check(document, profile)]


def check_before_sending(document: Document, profile: Profile) -> None:
    """Check the rules whose violations the cluster would reject.

    Raises:
        PolicyError: a rule is violated; the message has the rule and the field.
    """
    findings = [finding for rule in RULES if rule.check and rule.before_sending for finding in rule.check(document, profile)]
    if findings:
        raise PolicyError(name_of(document), findings)


def rule(rule_id: str) -> Rule:
    """Return a rule by its id.

    Raises:
        ConfigurationError: there is no such rule.
    """
    rules = {item.id: item for item in RULES}
    if rule_id.upper() not in rules:
        raise ConfigurationError(f"no rule {rule_id!r}; {suggest(rule_id.upper(), list(rules))}")
    return rules[rule_id.upper()]
