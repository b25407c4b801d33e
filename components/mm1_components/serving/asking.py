"""A client of the server in a pod: a chat question about an image, and its metrics."""

from __future__ import annotations

import time

from mm1.errors import ConfigurationError, NetworkError
from mm1.serve import probe
from mm1_components.serving.state import Pod, Question, Replies

ANSWER_S = 60.0
"""Limit for an answer; with a canary's few tokens, a server that takes longer is of no use."""
METRICS_S = 10.0
API = "/v1/"
"""Beginning of the routes whose replies count. Scrapes and health checks would hide failures."""


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
        """Return the counts of the API's replies since the server started, by its metrics.

        Raises:
            ConfigurationError: the server refused the request, or its metrics cannot be read.
            NetworkError: the server is unreachable, did not answer in time, or failed.
        """
        from prometheus_client.parser import text_string_to_metric_families

        text = probe.text_of(f"{_url(pod)}/metrics", None, time.monotonic() + METRICS_S)
        try:
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            counts = [
                (int(sample.labels["code"]), int(sample.value))
                for sample in samples
                if sample.name == "mm1_requests_total" and sample.labels["route"].startswith(API)
            ]
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"{_url(pod)}/metrics: not the metrics of a server of MM1 ({error})") from None
        return Replies(sum(number for _, number in counts), sum(number for code, number in counts if code >= 500))


def _url(pod: Pod) -> str:
    if not pod.url:
        raise NetworkError(f"pod {pod.name} has no address")
    return pod.url
