"""The gate: decides whether a checkpoint may be deployed, from evaluation reports and rules. Torch-free.

A rule has the form ``task/shots/metric>=number``, such as ``captions/0/content_f1>=0.85``; ``<=``, ``>`` and ``<`` are
allowed too, and ``task/shots/metric/shuffled<=0.5`` refers to the image-shuffled control. All rules must hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mm1.config.values import parse_integer, parse_number, quoted
from mm1.errors import ConfigurationError
from mm1.manifests import EvalReport, GateRule, Score

_RULE = re.compile(
    r"(?P<task>[\w.-]+)/(?P<shots>[^/]+)/(?P<metric>[\w.-]+)(?:/(?P<control>none|shuffled))?(?P<sign>>=|<=|>|<)(?P<threshold>.+)"
)
_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """One condition on one score."""

    task: str
    shots: int
    metric: str
    control: str
    sign: str
    threshold: float

    @property
    def score_name(self) -> str:
        """Name of the score."""
        return f"{self.task}/{self.shots}/{self.metric}" + ("" if self.control == "none" else f"/{self.control}")

    def __str__(self) -> str:
        return f"{self.score_name} {self.sign} {self.threshold:g}"


def parse_rules(text: str) -> list[ScoreRule]:
    """Parse rules separated by spaces.

    Raises:
        ConfigurationError: there is no rule, or one is not of the form task/shots/metric>=number.
    """
    # Spaces around a sign are allowed: "captions/0/cider >= 1" is one rule.
    rules = re.sub(r"\s*(>=|<=|>|<)\s*", r"\1", text).split()
    if not rules:
        raise ConfigurationError("rules: expected at least one rule, for example captions/0/content_f1>=0.85")
    return [_parse_rule(rule) for rule in rules]


def _parse_rule(text: str) -> ScoreRule:
    match = _RULE.fullmatch(text)
    if not match:
        raise ConfigurationError(f"rules: expected task/shots/metric>=number, got {quoted(text)}")
    try:
        return ScoreRule(
            task=match["task"],
            shots=parse_integer(match["shots"]),
            metric=match["metric"],
            control=match["control"] or "none",
            sign=match["sign"],
            threshold=parse_number(match["threshold"]),
        )
    except ValueError as error:
        raise ConfigurationError(f"rules: {quoted(text)}: {error}") from None


def judge(rules: Sequence[ScoreRule], reports: Sequence[EvalReport]) -> tuple[GateRule, ...]:
    """Check each rule.

    If several reports have a score, the last one counts: pass the report of the checkpoint to deploy last.
    A rule whose score was not measured fails.
    """
    scores: dict[str, Score] = {}
    for report in reports:
        for score in report.scores:
            control = "" if score.control == "none" else f"/{score.control}"
            scores[f"{score.task}/{score.shots}/{score.metric}{control}"] = score
    return tuple(_verdict(rule, scores) for rule in rules)


def _verdict(rule: ScoreRule, scores: dict[str, Score]) -> GateRule:
    score = scores.get(rule.score_name)
    if score is None:
        known = ", ".join(sorted(scores)) or "none"
        return GateRule(
            rule=str(rule), value=None, threshold=rule.threshold, passed=False, reason=f"not measured; measured scores: {known}"
        )
    passed = bool(_SIGNS[rule.sign](score.value, rule.threshold))
    reason = f"{score.value:.3f} ± {score.stderr:.3f} on {score.num_items} items of {score.split}"
    return GateRule(rule=str(rule), value=score.value, threshold=rule.threshold, passed=passed, reason=reason)
