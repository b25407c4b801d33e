"""The analysis of a canary: image questions, the share of failed replies, and whether its pods keep running.

The first failure ends it: a canary answers users, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mm1.errors import Mm1Error, Preempted
from mm1.lineage.text import count
from mm1_components.serving.state import Asker, Clock, Pod, Question, Settings

log = logging.getLogger("mm1")

ANSWER_SHOWN = 80
"""Number of characters of an answer in a message."""


@dataclass
class Analysis:
    """The questions that were asked and the replies that were counted, of one model."""

    settings: Settings
    questions: Sequence[Question]
    asker: Asker
    clock: Clock
    asked: int = 0
    equal: int = 0
    """Answers that had to be, and were, a right one."""
    slowest_s: float = 0.0
    ready_s: float | None = None
    """Time until the canary was ready, s; None without a canary."""
    replies: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Pod -> its replies, and those that failed."""

    def ask(self, pod: Pod, number: int) -> str:
        """Ask a pod a question and return what is wrong with the answer; empty if nothing is.

        Args:
            pod: the pod.
            number: index of the question; they repeat.
        """
        question = self.questions[number % len(self.questions)]
        started = self.clock.now()
        try:
            answer = self.asker.ask(pod, question).strip()
        except Preempted:
            raise
        except Mm1Error as error:
            return f"pod {pod.name} did not answer {_shown(question.text)}: {error}"
        self.slowest_s = max(self.slowest_s, self.clock.now() - started)
        self.asked += 1
        if not question.answers:
            return ""
        if answer not in (expected := [text.strip() for text in question.answers]):
            texts = " or ".join(_shown(text) for text in expected)
            return f"pod {pod.name} answered {_shown(answer)} to {_shown(question.text)}, expected {texts}"
        self.equal += 1
        return ""

    def check_replies(self, pod: Pod) -> str:
        """Count the replies of a pod and return what is wrong with their share of failures; empty if nothing is."""
        try:
            replies = self.asker.replies(pod)
        except Preempted:
            raise
        except Mm1Error as error:
            return f"pod {pod.name} did not report its metrics: {error}"
        self.replies[pod.name] = (replies.total, replies.failed)
        share = replies.failed / replies.total if replies.total else 0.0
        if share > (limit := self.settings.max_error_rate):
            return f"pod {pod.name} failed {replies.failed} of {replies.total} requests ({share:.1%}), more than {limit:.1%}"
        return ""

    def facts(self) -> dict[str, Any]:
        """Return the figures for the record; empty before the first question."""
        if not self.asked:
            return {}
        totals = [sum(counts) for counts in zip(*self.replies.values(), strict=True)] or [0, 0]
        facts = {"questions": self.asked, "right_answers": self.equal, "slowest_answer_s": round(self.slowest_s, 3)}
        facts |= {"replies": totals[0], "failed_replies": totals[1]}
        return facts | ({} if self.ready_s is None else {"ready_s": round(self.ready_s, 1)})


def summary(facts: Mapping[str, Any]) -> str:
    """Return the figures of an analysis in words."""
    return (
        f"{count(facts.get('questions', 0), 'question')} answered, {facts.get('right_answers', 0)} of them with the expected "
        f"answer; {facts.get('failed_replies', 0)} of {count(facts.get('replies', 0), 'request')} failed"
    )


def failure_of(pods: Sequence[Pod]) -> str:
    """Return the first pod that failed, and why; empty if none did."""
    return next((f"pod {pod.name}: {pod.failure}" for pod in pods if pod.failure), "")


def lateness(pods: Sequence[Pod], seconds: float) -> str:
    """Return that pods did not become ready in time, and what they wait for."""
    waiting = next((f" ({pod.name} is pending: {pod.pending})" for pod in pods if pod.pending), "")
    return f"not ready within {seconds:.0f} s{waiting}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= ANSWER_SHOWN else f"{text[:ANSWER_SHOWN]}...")
