"""A client of the server in a pod: a chat question about an image, and its metrics."""

from __future__ import annotations

import re
import time

from mm1.errors import NetworkError
from mm1.serve import probe
from mm1_components.serving.state import Pod, Question, Replies

ANSWER_S = 60.0
"""Limit for an answer; with a canary's few tokens, a server that takes longer is of no use."""
METRICS_S = 10.0
_COUNT = re.compile(r'^mm1_requests_total\{[^}]*code="(?P<code>\d+)"[^}]*\}\s+(?P<number>[0-9.e+]+)', re.M)


class HttpAsker:
    """A client of the pods' servers."""

    def __init__(self, api_key: str = "") -> None:
        """Set the API key that is sent with each request; empty = none."""
        self.api_key = api_key

    def ask(self, pod: Pod, question: Question) -> str:
        """Return the answer to a question.

        Raises:
            ConfigurationError: the server refused the question.
            NetworkError: the server is unreachable, did not answer in time, or failed.
        """
        deadline = time.monotonic() + ANSWER_S
        return probe.answer(_url(pod), question.text, question.image, question.max_tokens, deadline, self.api_key)

    def replies(self, pod: Pod) -> Replies:
        """Return the counts of replies since the server started, by its metrics.

        Raises:
            ConfigurationError: the server refused the request.
            NetworkError: the server is unreachable, did not answer in time, or failed.
        """
        text = probe.text_of(f"{_url(pod)}/metrics", None, time.monotonic() + METRICS_S)
        counts = [(int(match["code"]), float(match["number"])) for match in _COUNT.finditer(text)]
        return Replies(int(sum(number for _, number in counts)), int(sum(number for code, number in counts if code >= 500)))


def _url(pod: Pod) -> str:
    if not pod.url:
        raise NetworkError(f"pod {pod.name} has no address")
    return pod.url
