"""Metrics in Prometheus' text format, in a registry of their own."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mm1.generation.engine import Engine
from mm1.serve.api.answers import Pending

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histograms' buckets, s."""


class Metrics:
    """Counters of a server.

    Args:
        engine: its state and counters are read at each scrape.
    """

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_EngineCollector(engine))
        labels, registry = ("route", "method", "code"), self.registry
        self.requests = Counter("mm1_requests", "Requests by route and status.", labels, registry=registry)
        self.first_token = Histogram(
            "mm1_time_to_first_token_seconds", "From queueing to the first token.", buckets=SECONDS, registry=registry
        )
        self.answer = Histogram("mm1_answer_seconds", "From queueing to the end.", buckets=SECONDS, registry=registry)

    def count_answers(self, pending: Pending) -> None:
        """Count the answers of a request that ended."""
        if pending.first_token is not None:
            self.first_token.observe(pending.first_token - pending.started)
        if all(step and step.finish_reason for step in pending.steps_so_far):
            self.answer.observe(time.monotonic() - pending.started)

    def text(self) -> tuple[bytes, str]:
        """Return the metrics and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        stats = self._engine.stats()
        yield GaugeMetricFamily("mm1_answers_running", "Answers being generated.", stats.running)
        yield GaugeMetricFamily("mm1_answers_waiting", "Asks in the queue.", stats.waiting)
        yield GaugeMetricFamily("mm1_prefix_cache_bytes", "Size of the prefix cache.", stats.prefix_cache_bytes)
        yield CounterMetricFamily("mm1_answers_finished", "Answers completed.", stats.finished)
        yield CounterMetricFamily("mm1_answers_cancelled", "Answers given up by their reader.", stats.cancelled)
        yield CounterMetricFamily("mm1_answers_failed", "Answers ended by an error.", stats.failed)
        yield CounterMetricFamily("mm1_prompt_tokens", "Tokens of prompts.", stats.prompt_tokens)
        yield CounterMetricFamily("mm1_generated_tokens", "Tokens generated.", stats.generated_tokens)
        yield CounterMetricFamily("mm1_prefix_hit_tokens", "Prompt tokens found in the cache.", stats.prefix_hit_tokens)
