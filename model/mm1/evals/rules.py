"""Rules of the gate: a score and what it must be. Torch-free.

::

    captions/0/content_f1>=0.85             floor: at least 0.85
    captions/0/content_f1>=serving-0.02     margin: at most 0.02 below the serving model, with 95 % confidence
    vague/4/accuracy>serving                better than the serving model, with 95 % confidence
    vqa/0/accuracy/shuffled<=serving+0.05   image-shuffled control: at most 0.05 above the serving model
    vqav2:testdev/0/accuracy>=0.6           a split of the benchmark
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from mm1.config.values import parse_integer, parse_number, quoted
from mm1.errors import ConfigurationError
from mm1.manifests import Score

FORM = "task/shots/metric>=number or task/shots/metric>=serving-margin"
SERVING = "serving"
_RULE = re.compile(
    r"(?P<task>[\w.-]+)(?::(?P<split>[\w.-]+))?/(?P<shots>[^/]+)/(?P<metric>[\w.-]+)(?:/(?P<control>none|shuffled))?"
    r"(?P<sign>>=|<=|>|<)(?P<target>.+)"
)
_SPACES = re.compile(r"\s*(>=|<=|>|<)\s*")
_SERVING_SPACES = re.compile(rf"([<>=]{SERVING})(?:\s*([+-])\s*|(?=\s|$))")
_TARGET = re.compile(rf"{SERVING}(?:(?P<sign>[+-])(?P<number>.+))?")
_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """One condition on one score."""

    task: str
    split: str
    """Split of the task; empty = whichever was evaluated."""
    shots: int
    metric: str
    control: str
    sign: str
    threshold: float
    """The number; with `relative`, what is added to the serving model's score."""
    relative: bool
    """Whether the score is compared with the serving model's."""

    @property
    def task_name(self) -> str:
        """Name of the task, with its split if the rule names one."""
        return self.task + (f":{self.split}" if self.split else "")

    @property
    def measurement(self) -> str:
        """The evaluation that the rule needs: ``task/shots``, or ``task/shots/shuffled``."""
        return f"{self.task_name}/{self.shots}" + ("" if self.control == "none" else f"/{self.control}")

    @property
    def score_name(self) -> str:
        """Name of the score."""
        return f"{self.task_name}/{self.shots}/{self.metric}" + ("" if self.control == "none" else f"/{self.control}")

    @property
    def upwards(self) -> bool:
        """Whether higher scores are better."""
        return self.sign.startswith(">")

    @property
    def margin(self) -> float:
        """Allowed loss against the serving model; at zero or less, the score must be better."""
        return -self.threshold if self.upwards else self.threshold

    def holds(self, value: float) -> bool:
        """Whether a value satisfies the rule."""
        return bool(_SIGNS[self.sign](value, self.threshold))

    def concerns(self, score: Score) -> bool:
        """Whether a score is the one of the rule."""
        same = (score.task, score.shots, score.metric, score.control) == (self.task, self.shots, self.metric, self.control)
        return same and self.split in ("", score.split)

    def __str__(self) -> str:
        target = f"{self.threshold:g}"
        if self.relative:
            target = SERVING + (f"{self.threshold:+g}" if self.threshold else "")
        return f"{self.score_name} {self.sign} {target}"


def parse_rules(text: str) -> list[ScoreRule]:
    """Parse rules separated by spaces.

    Raises:
        ConfigurationError: there is no rule, or one is not of the form task/shots/metric>=number.
    """
    # Spaces around signs are allowed: "captions/0/cider >= serving - 0.1" is one rule.
    rules = _SERVING_SPACES.sub(r"\1\2", _SPACES.sub(r"\1", text)).split()
    if not rules:
        raise ConfigurationError("rules: expected at least one rule, for example captions/0/content_f1>=0.85")
    return [_parse_rule(rule) for rule in rules]


def _parse_rule(text: str) -> ScoreRule:
    match = _RULE.fullmatch(text)
    if not match:
        raise ConfigurationError(f"rules: expected {FORM}, got {quoted(text)}")
    target = _TARGET.fullmatch(match["target"])
    try:
        return ScoreRule(
            task=match["task"],
            split=match["split"] or "",
            shots=parse_integer(match["shots"]),
            metric=match["metric"],
            control=match["control"] or "none",
            sign=match["sign"],
            threshold=_offset(target) if target else parse_number(match["target"]),
            relative=target is not None,
        )
    except ValueError as error:
        raise ConfigurationError(f"rules: {quoted(text)}: {error}") from None


def _offset(target: re.Match[str]) -> float:
    if target["sign"] is None:
        return 0.0
    number = parse_number(target["number"])
    if number < 0:
        raise ValueError(f"expected one sign after {SERVING}, got {target[0]}")
    return number if target["sign"] == "+" else -number
