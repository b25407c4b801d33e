"""Summary of the gate's decision as Markdown. Torch-free."""

from __future__ import annotations

from mm1.manifests import GateDecision, GateRule


def summary_markdown(decision: GateDecision) -> str:
    """Format the decision: whose scores it is about, a table of the rules, and the reason of each verdict."""
    serving = f"serving checkpoint {decision.serving[:12]}" if decision.serving else "no serving model: first deployment"
    rows = [["", "rule", "score", "serving", "difference", "90 % interval", "items"], *map(_cells, decision.rules)]
    if not any(rule.comparison for rule in decision.rules):
        rows = [row[:3] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    reasons = [f"- {rule.rule}: {rule.reason}" for rule in decision.rules]
    about = f"Checkpoint {decision.checkpoint[:12]}; {serving}."
    return "\n".join([f"# Gate: {decision.decision}", "", about, "", *lines, "", *reasons, ""])


def _cells(rule: GateRule) -> list[str]:
    verdict = rule.unjudged if rule.unjudged else "passed" if rule.passed else "failed"
    cells = [verdict if rule.passed else f"**{verdict}**", rule.rule, "" if rule.value is None else f"{rule.value:.3f}"]
    comparison = rule.comparison
    if comparison is None:
        return [*cells, "", "", "", ""]
    interval = f"{comparison.low:+.3f} to {comparison.high:+.3f}"
    return [*cells, f"{comparison.value:.3f}", f"{comparison.difference:+.3f}", interval, str(comparison.num_items)]
