"""Step gate: decide whether a checkpoint may be deployed.

EvalReports of the checkpoint, and of the serving model, + rules -> GateDecision, and pass or fail as an output
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producer, Producers
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.judged import same_checkpoint

if TYPE_CHECKING:
    import pyarrow as pa

    from mm1.manifests import Digest, EvalReport
    from mm1.store.base import Store

log = logging.getLogger("mm1")


class Inputs(BaseModel):
    """Inputs of gate."""

    reports: str = Field(
        description="EvalReport addresses, separated by spaces; only scores of the checkpoint to deploy count for the rules"
    )
    rules: str = Field(
        "captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
        description="rules of the form task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold",
    )
    checkpoint: ManifestUri = Field("", description="Checkpoint to deploy; empty: that of the last report")
    serving: ManifestUri = Field(
        "",
        description="model that is served, for rules with >=serving-margin: its EvalReport, or a GateDecision, Deployment, "
        "ExportedModel or Checkpoint in a store with its EvalReport; empty: first deployment",
    )


class Outputs(BaseModel):
    """Outputs of gate."""

    manifest: ManifestUri = Field(description="GateDecision")
    decision: Literal["pass", "fail"] = Field(description="pass or fail")


# -- checks -------------------------------------------------------------------------------------------------------------


def check_rules(rules: str) -> None:
    """Check that the rules can be parsed, and that their metrics exist and can be compared."""
    from mm1.evals.rules import parse_rules
    from mm1.evals.tasks.groups import GROUPS
    from mm1.evals.tasks.registry import TASKS, metrics_of

    for rule in parse_rules(rules):
        if rule.metric not in metrics_of(rule.task):
            raise ConfigurationError(
                f"rules: {rule.score_name}: unknown metric {rule.metric!r}; {suggest(rule.metric, metrics_of(rule.task))}"
            )
        corpus_metrics = TASKS[rule.task].corpus_metrics if rule.task in TASKS else {}
        if rule.relative and (rule.metric in corpus_metrics or rule.task in GROUPS):
            raise ConfigurationError(
                f"rules: {rule}: {rule.metric} has no values per item, so the models cannot be compared; "
                "use >=number, or another metric"
            )


def check_first_deployment(rules: str, serving: str) -> None:
    """Check that a first deployment has a rule that can refuse it."""
    from mm1.evals.rules import parse_rules

    if not serving and all(rule.relative for rule in parse_rules(rules)):
        raise ConfigurationError(
            "rules: all of them compare with the serving model, and serving is empty; set serving, or add a floor such as "
            "captions/0/content_f1>=0.5 for the first deployment"
        )


def check_measured(rules: str, reports: Producers, checkpoint: str) -> None:
    """Check that the evaluations of a known checkpoint, or of that of the last report, measure the scores of the rules."""
    _check_measured(rules, reports, checkpoint or reports[-1].inputs.get("checkpoint"))


def check_measured_of_task(rules: str, reports: Producers, checkpoint: Producer) -> None:
    """Check that the evaluations of the checkpoint that another task produces measure the scores of the rules."""
    _check_measured(rules, reports, checkpoint)


def _check_measured(rules: str, reports: Producers, checkpoint: object) -> None:
    from mm1.evals.gate import remedy
    from mm1.evals.rules import parse_rules
    from mm1.evals.tasks.registry import TASKS, planned_scores

    inputs = ("tasks", "shots", "controls", "split")
    if not checkpoint or any(each.step != "evaluate" or "checkpoint" not in each.inputs for each in reports):
        return
    own = [each for each in reports if same_checkpoint(each.inputs["checkpoint"], checkpoint)]
    if not own:
        raise ConfigurationError("reports: none is of the checkpoint to deploy; evaluate this checkpoint and pass its report")
    if not all(each.known(*inputs) for each in own):
        return
    try:
        planned = set().union(*(planned_scores(*(each.inputs[name] for name in inputs)) for each in own))
    except ConfigurationError:
        return  # reported by the evaluation's own checks
    for rule in parse_rules(rules):
        if (rule.task_name, rule.shots, rule.control) not in planned:
            advice = remedy(rule, planned, own[-1].setting("tasks"))
            if rule.task not in TASKS:
                advice += f", if the benchmarks have it; {suggest(rule.task, sorted(TASKS))}"
            raise ConfigurationError(f"rules: {rule.score_name} is not evaluated for the checkpoint to deploy; {advice}")


# -- run ----------------------------------------------------------------------------------------------------------------


def run(inputs: Inputs, context: Context) -> Outputs:
    """Apply the rules to the reports; a failed gate is an outcome, not an error.

    Raises:
        ConfigurationError: a rule cannot be parsed, no report is of the checkpoint, or an address is not that of a report.
        DataError: the answers of a report are damaged.
    """
    from mm1.evals.gate import judge
    from mm1.evals.gate_summary import summary_markdown
    from mm1.evals.rules import parse_rules
    from mm1.lineage.reports import serving_reports
    from mm1.manifests import GateDecision, digest_of_manifest, split_uri

    rules, reports = parse_rules(inputs.rules), _reports(inputs, context)
    checkpoint = _checkpoint(inputs, reports)
    serving, compared = serving_reports(inputs.serving) if inputs.serving else (None, [])
    stores = {digest_of_manifest(report): split_uri(address)[0] for address, report in reports.items()}
    stores |= {digest_of_manifest(report): split_uri(inputs.serving)[0] for report in compared}
    verdicts = judge(rules, list(reports.values()), checkpoint, compared, Answers(stores).read)
    decision: Literal["pass", "fail"] = "pass" if all(rule.passed for rule in verdicts) else "fail"
    used = dict.fromkeys(rule.comparison.report for rule in verdicts if rule.comparison)
    manifest = GateDecision(
        parents=tuple(dict.fromkeys([*(split_uri(address)[1] for address in reports), *used])),
        checkpoint=checkpoint,
        decision=decision,
        rules=verdicts,
        serving=serving,
    )
    for rule in verdicts:
        level, verb = (logging.INFO, "passed") if rule.passed else (logging.WARNING, "failed")
        log.log(level, "rule %s %s: %s", rule.rule, verb, rule.reason)
    context.artifact("summary.md").write_text(summary_markdown(manifest))
    return Outputs(manifest=context.publish(manifest), decision=decision)


def _reports(inputs: Inputs, context: Context) -> dict[str, EvalReport]:
    """Load the reports, by address."""
    from mm1.manifests import EvalReport

    addresses = inputs.reports.split()
    if not addresses:
        raise ConfigurationError("reports: expected the address of at least one EvalReport")
    return {address: context.load(address, EvalReport) for address in addresses}


def _checkpoint(inputs: Inputs, reports: Mapping[str, EvalReport]) -> Digest:
    """Return the digest of the checkpoint to deploy, of which there must be a report."""
    from mm1.manifests import split_uri

    checkpoint = split_uri(inputs.checkpoint)[1] if inputs.checkpoint else reports[inputs.reports.split()[-1]].checkpoint
    known = {report.checkpoint for report in reports.values()}
    if checkpoint not in known:
        listed = ", ".join(sorted(digest[:12] for digest in known))
        raise ConfigurationError(f"reports: none is of checkpoint {checkpoint[:12]}; they are of {listed}")
    return checkpoint


class Answers:
    """The answers of reports, read from their stores once, when a rule needs them.

    Args:
        stores: digest of a report -> address of its store.
    """

    def __init__(self, stores: Mapping[Digest, str]) -> None:
        self._stores = stores
        self._tables: dict[Digest, pa.Table] = {}

    def read(self, report: EvalReport) -> pa.Table:
        """Return the answers of a report."""
        from mm1.evals.samples import read_samples
        from mm1.manifests import digest_of_manifest
        from mm1.store.open import find_store

        digest = digest_of_manifest(report)
        if digest not in self._tables and report.samples:
            self._tables[digest] = read_samples(find_store(self._stores[digest]).verified_path(report.samples))
        return self._tables[digest]


def _state(inputs: Inputs, store: Store) -> str:
    """Return the reports that `serving` leads to, which depend on what its store has."""
    from mm1.lineage.reports import serving_reports
    from mm1.manifests import digest_of_manifest

    return " ".join(map(digest_of_manifest, serving_reports(inputs.serving)[1])) if inputs.serving else ""


STEP = Step(
    name="gate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="GateDecision",
    summary="Decide whether a checkpoint may be deployed, by rules on its scores and a comparison with the serving model",
    artifacts=("summary.md",),
    state=_state,
    checks=(check_rules, check_first_deployment, check_measured, check_measured_of_task),
    timeout_s=600,
)

if __name__ == "__main__":
    main(STEP)
