"""The gate: decides whether a checkpoint may be deployed, from its evaluation reports and rules. Torch-free.

A rule counts only for scores of the checkpoint itself, whatever the scores of others are. A rule about the serving model
compares both models on the same items (:mod:`mm1.evals.paired`). All rules must hold. A model that is worse than any one
margin allows therefore passes with a probability of at most 5 %, however many rules there are: the test that it must fail is
one of them (intersection-union test), and no correction for several rules is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mm1.evals.comparison import NotComparable, ReadTable, TooFewItems, check_same_inputs, compare, is_significant, rows_of
from mm1.evals.rules import ScoreRule, parse_rules
from mm1.manifests import Comparison, Digest, EvalReport, GateRule, Score, digest_of_manifest

__all__ = ["ScoreRule", "judge", "parse_rules", "remedy"]


@dataclass(frozen=True)
class Scored:
    """A score and the report that has it."""

    score: Score
    report: EvalReport

    @property
    def digest(self) -> Digest:
        """Digest of the report."""
        return digest_of_manifest(self.report)

    def __str__(self) -> str:
        score = self.score
        return (
            f"{score.value:.3f} ± {score.stderr:.3f} on {score.num_items} items of {score.split}, "
            f"checkpoint {self.report.checkpoint[:12]}, report {self.digest[:12]}"
        )


def judge(
    rules: Sequence[ScoreRule],
    reports: Sequence[EvalReport],
    checkpoint: Digest | None = None,
    serving: Sequence[EvalReport] = (),
    read_table: ReadTable | None = None,
) -> tuple[GateRule, ...]:
    """Check each rule.

    Args:
        rules: the rules.
        reports: reports of the checkpoint; those of other checkpoints do not count.
        checkpoint: the checkpoint to let through; None: that of the last report.
        serving: reports of the serving model; empty: a first deployment.
        read_table: reads the answers of a report, for rules about the serving model.
    """
    checkpoint = checkpoint or reports[-1].checkpoint
    return tuple(_verdict(rule, reports, checkpoint, serving, read_table) for rule in rules)


def _verdict(
    rule: ScoreRule,
    reports: Sequence[EvalReport],
    checkpoint: Digest,
    serving: Sequence[EvalReport],
    read_table: ReadTable | None,
) -> GateRule:
    own = [report for report in reports if report.checkpoint == checkpoint]
    matching = _scores(rule, own)
    if not matching:
        text = f"not scored for checkpoint {checkpoint[:12]}: {_remedy_of(rule, own)}{_elsewhere(rule, reports)}"
        return _refusal(rule, "not scored", text)
    if len({(each.score.split, each.score.value) for each in matching}) > 1:
        text = f"scored {len(matching)} times: {'; '.join(map(str, matching))}; name the split in the rule, or pass one report"
        return _refusal(rule, "not scored", text, matching[-1])
    scored = matching[-1]
    if not rule.relative:
        return _result(rule, scored, passed=rule.holds(scored.score.value), reason=str(scored))
    if not serving:
        reason = f"first deployment: no serving model to compare with; {scored}"
        return _result(rule, scored, passed=True, reason=reason, unjudged="first deployment")
    try:
        comparison = _compare(rule, scored, serving, read_table)
    except TooFewItems as few:
        return _too_few(rule, scored, few.comparison)
    except NotComparable as error:
        return _refusal(rule, "not comparable", f"cannot judge: {error}", scored)
    return _result(rule, scored, passed=is_significant(comparison), reason=_explain(scored, comparison), comparison=comparison)


def _scores(rule: ScoreRule, reports: Sequence[EvalReport]) -> list[Scored]:
    return [Scored(score, report) for report in reports for score in report.scores if rule.concerns(score)]


# -- the serving model --------------------------------------------------------------------------------------------------


def _compare(rule: ScoreRule, scored: Scored, serving: Sequence[EvalReport], read_table: ReadTable | None) -> Comparison:
    other = _of_serving(rule, scored, serving)
    for each in (scored, other):
        if each.report.samples is None or read_table is None:
            raise NotComparable(f"report {each.digest[:12]} has no per-item answers; evaluate the checkpoint again")
    rows, serving_rows = (
        rows_of(rule, each.score.split, read_table(each.report)) for each in (scored, other) if read_table is not None
    )
    return compare(rule, rows, serving_rows, (scored.score.value, other.score.value), other.digest)


def _of_serving(rule: ScoreRule, scored: Scored, serving: Sequence[EvalReport]) -> Scored:
    """Return the serving model's score that can be compared; the last one, if there are several."""
    matching = [each for each in _scores(rule, serving) if each.score.split == scored.score.split]
    checkpoint = serving[-1].checkpoint
    if not matching:
        raise NotComparable(f"not scored for the serving checkpoint {checkpoint[:12]}: {_remedy_of(rule, serving)}")
    for each in reversed(matching):
        try:
            check_same_inputs(scored.report, each.report)
        except NotComparable as error:
            reason = error
        else:
            return each
    raise NotComparable(
        f"{reason}; evaluate the serving checkpoint {checkpoint[:12]} with the same inputs as this one "
        "(mm1 run workflows/evaluate_model.py)"
    )


def _explain(scored: Scored, comparison: Comparison) -> str:
    p_value = "p < 0.001" if comparison.p_value < 0.001 else f"p = {comparison.p_value:.3f}"
    return (
        f"{comparison.difference:+.3f} to the serving model's {comparison.value:.3f}, 90 % interval {comparison.low:+.3f} to "
        f"{comparison.high:+.3f}, {p_value}; {scored}"
    )


def _too_few(rule: ScoreRule, scored: Scored, comparison: Comparison) -> GateRule:
    if comparison.smallest_effect is None:
        lack = "all items are of one image, so that their spread is unknown"
    else:
        lack = (
            f"the smallest difference that {comparison.num_items} items can show is {comparison.smallest_effect:.3f}, which "
            f"exceeds the margin of {rule.margin:g}; {comparison.items_missing:,} more items are missing"
        )
    text = f"cannot judge: {lack}; {_explain(scored, comparison)}"
    return _result(rule, scored, passed=False, reason=text, unjudged="too few items", comparison=comparison)


# -- what is not scored -------------------------------------------------------------------------------------------------


def remedy(rule: ScoreRule, measured: set[tuple[str, int, str]], inputs: str = "the tasks of its evaluation") -> str:
    """Return what to evaluate so that a rule can be judged.

    Args:
        rule: a rule whose score was not measured.
        measured: task (with its split, if named), shots and control of what was, or will be.
        inputs: where tasks are set.
    """
    shots = sorted({number for task, number, _ in measured if task == rule.task_name})
    if rule.shots in shots and rule.control != "none":
        return f"controls=true adds the image-shuffled control, if task {rule.task} has it with {rule.shots} shots"
    if shots:
        numbers = ",".join(map(str, sorted({*shots, rule.shots})))
        return f'set "{rule.task_name}@{numbers}" in {inputs}, which has task {rule.task_name} with {_listed(shots)} shots only'
    return f'add "{rule.task_name}@{rule.shots}" to {inputs}'


def _remedy_of(rule: ScoreRule, reports: Sequence[EvalReport]) -> str:
    if not reports:
        return f'none of the reports is of this checkpoint; evaluate it with tasks="{rule.task_name}@{rule.shots}"'
    scores = [score for report in reports for score in report.scores if rule.split in ("", score.split)]
    metrics = {each.metric for each in scores if (each.task, each.shots, each.control) == (rule.task, rule.shots, rule.control)}
    if metrics:
        return f"task {rule.task} has no metric {rule.metric}; its metrics: {', '.join(sorted(metrics))}"
    measured: set[tuple[str, int, str]] = {
        (rule.task_name if score.task == rule.task else score.task, score.shots, score.control) for score in scores
    }
    return remedy(rule, measured)


def _elsewhere(rule: ScoreRule, reports: Sequence[EvalReport]) -> str:
    others = _scores(rule, reports)
    return f" (the score of another checkpoint does not count: {others[-1]})" if others else ""


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


# -- verdicts -----------------------------------------------------------------------------------------------------------


def _result(rule: ScoreRule, scored: Scored, **fields: object) -> GateRule:
    base = {"rule": str(rule), "value": scored.score.value, "threshold": rule.threshold, "report": scored.digest}
    return GateRule.model_validate(base | fields)


def _refusal(rule: ScoreRule, unjudged: str, reason: str, scored: Scored | None = None) -> GateRule:
    fields = {"rule": str(rule), "value": None, "threshold": rule.threshold, "passed": False, "reason": reason}
    if scored:
        fields |= {"value": scored.score.value, "report": scored.digest}
    return GateRule.model_validate(fields | {"unjudged": unjudged})
