"""The HTTP server of a training's metrics: a thread that answers Prometheus' scrapes, next to the work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mm1.errors import SAVED, Outcome, Preempted
from mm1.monitoring.training import RUN_LABELS, TRAINING
from mm1_components.ranks.training_metrics import TrainingMetrics

log = logging.getLogger("mm1")

EVERYWHERE = ("::", "0.0.0.0")
"""Addresses to listen on in a pod: the first one that works."""
THIS_MACHINE = ("127.0.0.1",)
LAST_SCRAPE_S = 60.0
"""Longest wait for a scrape after a failure. Prometheus scrapes once per minute by default; charts set 30 s."""


class Exposition(Collector):
    """The metrics of a training in Prometheus' format.

    Args:
        metrics: their values.
    """

    def __init__(self, metrics: TrainingMetrics) -> None:
        self.metrics = metrics
        self.scraped_at = float("-inf")
        """Time of the last scrape, monotonic."""
        self.seen_end = threading.Event()
        """Set by a scrape after the end of the training."""

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; called by each scrape, in a thread of the server."""
        has_ended = self.metrics.outcome is not None
        samples = self.metrics.samples()
        for metric in TRAINING.values():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=(*RUN_LABELS, *metric.labels))
            for sample in samples.get(metric.name, ()):
                family.add_metric((*self.metrics.labels, *sample.labels), sample.value)
            yield family
        self.scraped_at = time.monotonic()
        if has_ended:
            self.seen_end.set()


@contextmanager
def exposed(metrics: TrainingMetrics, port: int, hosts: tuple[str, ...] = EVERYWHERE) -> Iterator[int]:
    """Serve the metrics of a training while the block runs; if the port cannot be used, the block runs without a server.

    Args:
        metrics: of the training.
        port: to listen on; 0 = any free one.
        hosts: addresses to listen on, the first one that works.

    Yields:
        The port; 0 without a server.
    """
    exposition = Exposition(metrics)
    server = _start(exposition, port, hosts)
    try:
        yield server.server_port if server else 0
    finally:
        if server:
            _await_last_scrape(exposition)
            server.shutdown()
            server.server_close()


def _start(exposition: Exposition, port: int, hosts: tuple[str, ...]) -> Any:
    """Start the server; None if no address can be used."""
    registry = CollectorRegistry()
    registry.register(exposition)
    ProcessCollector(registry=registry)
    reasons = []
    for host in hosts:
        try:
            server, _ = start_http_server(port, host, registry)
        except (OSError, OverflowError, RuntimeError) as error:  # in use, no such port, no more threads
            reasons.append(str(error))
        else:
            log.info("metrics at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, server.server_port)
            return server
    log.warning("no metrics: cannot listen on port %d: %s", port, "; ".join(reasons))
    return None


def _await_last_scrape(exposition: Exposition) -> None:
    """Keep the outcome of a failed training until a scrape has seen it, if somebody scrapes at all.

    The process ends soon afterwards. Without this, no scrape would see most failures, and no alert could name their class.
    """
    if exposition.metrics.outcome in (None, Outcome.DONE, *SAVED):
        return
    if time.monotonic() - exposition.scraped_at > 2 * LAST_SCRAPE_S:
        return
    try:
        exposition.seen_end.wait(LAST_SCRAPE_S)
    except Preempted:
        log.info("stopped while waiting for a scrape of the outcome")
