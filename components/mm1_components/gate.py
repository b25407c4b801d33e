"""The step that decides whether a checkpoint may be deployed.

EvalReports + rules -> GateDecision, and the word pass or fail for what follows
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import AllMade
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main


class Inputs(BaseModel):
    """Reports and rules."""

    reports: str = Field(
        description="EvalReport addresses, separated by spaces; that of the checkpoint to deploy last: "
        "where several hold a score, the last counts"
    )
    rules: str = Field(
        "captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
        description="rules task/shots/metric>=number, separated by spaces; all must hold",
    )


def check_rules(rules: str) -> None:
    """The rules can be read, and are about metrics that exist."""
    from mm1.evals.gate import parse_rules
    from mm1.evals.tasks.registry import metrics_of

    for rule in parse_rules(rules):
        if rule.metric not in metrics_of(rule.task):
            raise ConfigurationError(
                f"rules: {rule.score_name}: unknown metric {rule.metric!r}; {suggest(rule.metric, metrics_of(rule.task))}"
            )


def check_measured(rules: str, reports: AllMade) -> None:
    """The evaluations before ask for the scores: a rule about any other could never pass."""
    from mm1.evals.gate import parse_rules
    from mm1.evals.tasks.registry import planned_scores

    inputs = ("tasks", "shots", "controls")
    if any(made.step != "evaluate" or not made.known(*inputs) for made in reports):
        return
    try:
        scores = set().union(*(planned_scores(*(made.inputs[name] for name in inputs)) for made in reports))
    except ConfigurationError:
        return  # the evaluation's own checks say it
    for rule in parse_rules(rules):
        score = f"{rule.task}/{rule.shots}" + ("" if rule.control == "none" else f"/{rule.control}")
        if score not in scores:
            raise ConfigurationError(f"rules: {rule.score_name} is not evaluated; {suggest(score, sorted(scores))}")


class Outputs(BaseModel):
    """The decision."""

    manifest: ManifestUri = Field(description="GateDecision")
    decision: Literal["pass", "fail"] = Field(description="pass or fail")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Judge the reports; a failed gate is an outcome, not an error.

    Raises:
        ConfigurationError: a rule that cannot be read, no report, or an address that is not a report's.
    """
    from mm1.evals.gate import judge, parse_rules
    from mm1.manifests import EvalReport, GateDecision, split_uri

    rules = parse_rules(inputs.rules)
    addresses = inputs.reports.split()
    if not addresses:
        raise ConfigurationError("reports: at least one EvalReport's address is needed")
    reports = [context.load(address, EvalReport) for address in addresses]
    verdicts = judge(rules, reports)
    decision: Literal["pass", "fail"] = "pass" if all(rule.passed for rule in verdicts) else "fail"
    manifest = GateDecision(
        parents=tuple(split_uri(address)[1] for address in addresses),
        checkpoint=reports[-1].checkpoint,
        decision=decision,
        rules=verdicts,
    )
    lines = [f"- {'passed' if rule.passed else '**failed**'}: {rule.rule} ({rule.reason})" for rule in verdicts]
    context.artifact("summary.md").write_text("\n".join([f"# Gate: {decision}", "", *lines, ""]))
    return Outputs(manifest=context.publish(manifest), decision=decision)


STEP = Step(
    name="gate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Decide by rules on its scores whether a checkpoint may be deployed",
    artifacts=("summary.md",),
    checks=(check_rules, check_measured),
    timeout_s=600,
)

if __name__ == "__main__":
    main(STEP)
