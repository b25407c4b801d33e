"""Step gate: decide whether a checkpoint may be deployed.

EvalReports + rules -> GateDecision, and pass or fail as an output for the next steps
"""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import BaseModel, Field

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producers
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main

log = logging.getLogger("mm1")


class Inputs(BaseModel):
    """Inputs of gate."""

    reports: str = Field(
        description="EvalReport addresses, separated by spaces, with the checkpoint to deploy last; "
        "if several contain a score, the last one is used"
    )
    rules: str = Field(
        "captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
        description="rules of the form task/shots/metric>=number, separated by spaces; all must hold",
    )


def check_rules(rules: str) -> None:
    """Check that the rules can be parsed and that their metrics exist."""
    from mm1.evals.gate import parse_rules
    from mm1.evals.tasks.registry import metrics_of

    for rule in parse_rules(rules):
        if rule.metric not in metrics_of(rule.task):
            raise ConfigurationError(
                f"rules: {rule.score_name}: unknown metric {rule.metric!r}; {suggest(rule.metric, metrics_of(rule.task))}"
            )


def check_measured(rules: str, reports: Producers) -> None:
    """Check that the preceding evaluations measure the scores of the rules; a rule about another score could never pass."""
    from mm1.evals.gate import parse_rules
    from mm1.evals.tasks.registry import planned_scores

    inputs = ("tasks", "shots", "controls")
    if any(producer.step != "evaluate" or not producer.known(*inputs) for producer in reports):
        return
    try:
        scores = set().union(*(planned_scores(*(producer.inputs[name] for name in inputs)) for producer in reports))
    except ConfigurationError:
        return  # reported by the evaluation's own checks
    for rule in parse_rules(rules):
        score = f"{rule.task}/{rule.shots}" + ("" if rule.control == "none" else f"/{rule.control}")
        if score not in scores:
            raise ConfigurationError(f"rules: {rule.score_name} is not evaluated; {suggest(score, sorted(scores))}")


class Outputs(BaseModel):
    """Outputs of gate."""

    manifest: ManifestUri = Field(description="GateDecision")
    decision: Literal["pass", "fail"] = Field(description="pass or fail")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Apply the rules to the reports; a failed gate is an outcome, not an error.

    Raises:
        ConfigurationError: a rule cannot be parsed, there is no report, or an address is not that of a report.
    """
    from mm1.evals.gate import judge, parse_rules
    from mm1.manifests import EvalReport, GateDecision, split_uri

    rules = parse_rules(inputs.rules)
    addresses = inputs.reports.split()
    if not addresses:
        raise ConfigurationError("reports: expected the address of at least one EvalReport")
    reports = [context.load(address, EvalReport) for address in addresses]
    verdicts = judge(rules, reports)
    decision: Literal["pass", "fail"] = "pass" if all(rule.passed for rule in verdicts) else "fail"
    manifest = GateDecision(
        parents=tuple(split_uri(address)[1] for address in addresses),
        checkpoint=reports[-1].checkpoint,
        decision=decision,
        rules=verdicts,
    )
    for rule in verdicts:
        level, verb = (logging.INFO, "passed") if rule.passed else (logging.WARNING, "failed")
        log.log(level, "rule %s %s: %s", rule.rule, verb, rule.reason)
    lines = [f"- {'passed' if rule.passed else '**failed**'}: {rule.rule} ({rule.reason})" for rule in verdicts]
    context.artifact("summary.md").write_text("\n".join([f"# Gate: {decision}", "", *lines, ""]))
    return Outputs(manifest=context.publish(manifest), decision=decision)


STEP = Step(
    name="gate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="GateDecision",
    summary="Decide whether a checkpoint may be deployed, by rules on its scores",
    artifacts=("summary.md",),
    checks=(check_rules, check_measured),
    timeout_s=600,
)

if __name__ == "__main__":
    main(STEP)
