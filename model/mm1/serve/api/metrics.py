"""Metrics in Prometheus' text format, in a registry of their own; :mod:`mm1.monitoring.serving` defines them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mm1.generation.engine import Engine
from mm1.monitoring.serving import SERVING
from mm1.serve.api.answers import Pending
from mm1.serve.api.errors import ApiError
from mm1.serve.config import ServeSettings

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histograms' buckets, s."""


class Metrics:
    """Counters of a server.

    Args:
        engine: its state and counters are read at each scrape.
        settings: name and digest of the model.
        is_ready: whether the server takes requests.
    """

    def __init__(self, engine: Engine, settings: ServeSettings, is_ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_StateCollector(engine, settings, is_ready))
        self.requests = self._counter("mm1_requests")
        self.errors = self._counter("mm1_request_errors")
        self.image_fetches = self._counter("mm1_image_fetches")
        for result in ("fetched", "failed"):
            self.image_fetches.labels(result)  # zero from the beginning
        self.first_token = self._histogram("mm1_time_to_first_token_seconds")
        self.answer = self._histogram("mm1_answer_seconds")

    def _counter(self, name: str) -> Counter:
        metric = SERVING[name]
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        metric = SERVING[name]
        return Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=SECONDS)

    def count_answers(self, pending: Pending) -> None:
        """Count the answers of a request that ended."""
        if pending.first_token is not None:
            self.first_token.observe(pending.first_token - pending.started)
        if all(step and step.finish_reason for step in pending.steps_so_far):
            self.answer.observe(time.monotonic() - pending.started)

    def count_error(self, error: ApiError) -> None:
        """Count an error that a client got."""
        self.errors.labels(str(error.status), error.code or error.kind).inc()

    def text(self) -> tuple[bytes, str]:
        """Return the metrics and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _StateCollector(Collector):
    def __init__(self, engine: Engine, settings: ServeSettings, is_ready: Callable[[], bool]) -> None:
        self._engine = engine
        self._is_ready = is_ready
        self._model = (settings.model_name, settings.model_root, version("mm1"))

    def collect(self) -> Iterable[Metric]:
        stats, limits = self._engine.stats(), self._engine.settings
        values = {
            "mm1_serving_ready": float(self._is_ready()),
            "mm1_answers_running": stats.running,
            "mm1_answers_running_limit": limits.max_running,
            "mm1_answers_waiting": stats.waiting,
            "mm1_answers_waiting_limit": limits.max_waiting,
            "mm1_answers_finished": stats.finished,
            "mm1_answers_cancelled": stats.cancelled,
            "mm1_answers_failed": stats.failed,
            "mm1_prompt_tokens": stats.prompt_tokens,
            "mm1_generated_tokens": stats.generated_tokens,
            "mm1_prefix_hit_tokens": stats.prefix_hit_tokens,
            "mm1_prefix_cache_bytes": stats.prefix_cache_bytes,
        }
        for name, value in values.items():
            kind = CounterMetricFamily if SERVING[name].kind == "counter" else GaugeMetricFamily
            yield kind(name, SERVING[name].help, value)
        info = SERVING["mm1_model_info"]
        family = GaugeMetricFamily(info.name, info.help, labels=info.labels)
        family.add_metric(self._model, 1.0)
        yield family
