"""Rules for workflows, each with an id and an explanation: ``mm1 lint``, ``mm1 lint --explain P007``.

P001 to P008 guard the subset of Argo that all engines understand (:mod:`mm1_workflows.rules.subset`); a workflow that breaks
one runs nowhere. P009 and later are about running well and safely on a cluster (:mod:`mm1_workflows.rules.pods`).
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
    """One rule."""

    id: str
    title: str
    why: str
    remedy: str
    check: Callable[[Document, Profile], Iterable[Finding]] | None = None
    """None: judged together with the subset's other rules."""
    before_sending: bool = False
    """Whether `submit` refuses what breaks it: the cluster would, later."""


RULES = (
    Rule(
        "P001",
        "the entrypoint is a DAG that exists",
        "Argo accepts a name that is not there and fails only when it runs; other engines know DAGs only.",
        "name the DAG in `entrypoint`.",
    ),
    Rule(
        "P002",
        "only what all engines understand",
        "A field that one engine ignores makes the same file mean different things on a laptop, on Argo and on Kubeflow.",
        "use container templates in one DAG, output parameters read from files, and the fields that the message names.",
    ),
    Rule(
        "P003",
        "dependencies are a plain conjunction without circles",
        "Only `a && b` has the same meaning on every engine; `||` and `.Failed` have none on Kubeflow.",
        "write `a >> c` and `b >> c`.",
    ),
    Rule(
        "P004",
        "a reference to an output is also a dependency",
        "Argo does not wait for a task because its output is referred to; it fails with an unresolved reference. Tasks of Hera "
        "get the dependency when the workflow is built, so this is about YAML files.",
        "add the producer to `depends` of the task.",
    ),
    Rule(
        "P005",
        "everything that is referred to exists",
        "A reference to nothing reaches the step as text with braces, hours later.",
        "declare the workflow parameter, the input or the output, or correct its name.",
    ),
    Rule(
        "P006",
        "`when` compares one output with a literal; what follows a conditional task carries the same `when`",
        "Kubeflow has no edge out of a condition, and an output of a skipped task does not exist.",
        "repeat the condition, or better: make the decision an input of the step (deploy(decision=...)).",
    ),
    Rule(
        "P007",
        "loops run over a JSON list of strings",
        "Items that are objects or numbers are passed differently by each engine.",
        'pass names or addresses: with_items=["a", "b"], or an output that holds a JSON list of strings.',
    ),
    Rule(
        "P008",
        "one exit task, which gets the status only",
        "At exit no task's output is certain to exist; Kubeflow allows one exit task.",
        "let the exit task read the run's records from the store, as `report` does.",
    ),
    Rule(
        "P009",
        "every container has an explicit command",
        "Without one Argo asks the registry for the image's entrypoint, which fails behind a proxy or without pull rights.",
        'command=["python", "-m", ...].',
        pod_rules.explicit_command,
    ),
    Rule(
        "P010",
        "images are pinned by digest",
        "A tag can move between two tasks of one run; the record would name code that did not run. (A warning in the default "
        "profile, whose digests come with a release, and for local images, which no registry can change.)",
        "write image@sha256:... in the profile; `make images REGISTRY=... PROFILE=...` does.",
        pod_rules.pinned_images,
    ),
    Rule(
        "P011",
        "run time is bounded",
        "A pod that hangs holds its GPUs until somebody looks.",
        "set active_deadline_seconds of template and workflow (the hooks do, unless it is taken away).",
        pod_rules.bounded_time,
    ),
    Rule(
        "P012",
        "retry is by outcome class",
        "Repeating a wrong parameter (80) wastes GPU hours; not repeating after a lost node (85) loses the run.",
        "leave retry_strategy to the hooks, or use their expression with a limit.",
        pod_rules.retry_by_class,
    ),
    Rule(
        "P013",
        "security contexts are restricted",
        "Namespaces that enforce Pod Security `restricted` refuse anything else.",
        "leave security contexts to the hooks.",
        pod_rules.restricted,
    ),
    Rule(
        "P014",
        "no secret in arguments or environment",
        "Arguments and values are readable to everybody who may read workflows, and land in archives.",
        "use the profile's environment_secret, or env from a Secret.",
        pod_rules.no_secrets,
    ),
    Rule(
        "P015",
        "limits are set, and equal the requests",
        "Without limits one step can push others off its node; on GPU nodes anything but request = limit is evicted first.",
        "leave resources to the pool of the profile.",
        pod_rules.limits,
    ),
    Rule(
        "P016",
        "time to save before the end",
        "A step writes its checkpoint after SIGTERM; Kubernetes' default of 30 s is too short for that.",
        "set grace_s of the step: at least 60 s, and 300 s for training on GPUs (it goes to the ranks in --launcher).",
        pod_rules.grace,
    ),
    Rule(
        "P017",
        "a workflow parameter has one type",
        "-p and the engines' forms check values by type; a parameter that feeds an integer and a path cannot be checked.",
        "use two parameters.",
        pod_rules.one_type,
    ),
    Rule(
        "P018",
        "waits between retries have a cap, not an end",
        "Argo counts maxDuration from a step's first start: one that ran for longer than that would never be started again.",
        "backoff: {duration: 5s, factor: 2, cap: 2m}.",
        pod_rules.capped_waits,
    ),
    Rule(
        "P019",
        "what starts ranks can be read",
        "--launcher is read when the supervisor starts, after hours in a queue; a typing error in it would show only then.",
        "leave --launcher to the step's template, which makes it from the profile.",
        pod_rules.readable_launcher,
    ),
    Rule(
        "P020",
        "names are ones that Kubernetes accepts",
        "A workflow's name becomes a label of its pods (at most 63 characters), and pods are named after it and the template. "
        "What Kubernetes refuses shows only when the workflow, or its first pod, is created.",
        "use lower-case letters, digits and dashes.",
        names.valid_names,
        before_sending=True,
    ),
    Rule(
        "P021",
        "a schedule is one that Argo accepts",
        "The controller marks a CronWorkflow that it cannot read, and never runs it.",
        'schedules: ["0 3 * * 6"], a time zone such as Europe/Berlin, a concurrencyPolicy of Allow, Forbid or Replace.',
        cron.valid_schedule,
        before_sending=True,
    ),
    Rule(
        "P022",
        "values are ones that the steps accept",
        "A recipe that does not exist, or a size that does not fit, is refused by the step: on a cluster after hours.",
        "correct the default or the literal that the message names.",
        values.valid_values,
    ),
)


def check(document: Document, profile: Profile) -> list[Finding]:
    """All findings of a built workflow; those of the subset alone when it breaks the subset."""
    findings = subset.check(document)
    if findings:
        return findings
    return [finding for rule in RULES if rule.check for finding in rule.check(document, profile)]


def check_before_sending(document: Document, profile: Profile) -> None:
    """Refuse what the cluster would refuse.

    Raises:
        PolicyError: the message names rule and place.
    """
    findings = [finding for rule in RULES if rule.check and rule.before_sending for finding in rule.check(document, profile)]
    if findings:
        raise PolicyError(name_of(document), findings)


def rule(rule_id: str) -> Rule:
    """A rule by its id.

    Raises:
        ConfigurationError: there is none.
    """
    found = {item.id: item for item in RULES}
    if rule_id.upper() not in found:
        raise ConfigurationError(f"no rule {rule_id!r}; {suggest(rule_id.upper(), list(found))}")
    return found[rule_id.upper()]
