"""The Grafana dashboard of the served model."""

from __future__ import annotations

from typing import Any

from mm1.monitoring.serving import SERVING
from mm1_workflows.monitoring.panels import Panel, Query, Section, Variable, dashboard

SERVERS = 'namespace="$namespace"'
ANSWERS = f'{SERVERS}, route=~"/v1/.*"'
"""Requests for answers, without probes and scrapes."""
POD = "{{pod}}"
SHARES = ("0.50", "0.95", "0.99")
VARIABLES = (Variable(name="namespace", query="label_values(mm1_model_info, namespace)"),)


def serving() -> dict[str, Any]:
    """Return the dashboard."""
    sections = (Section("Overview", _overview()), Section("Requests", _requests()), Section("Engine", _engine()))
    return dashboard("mm1-serving", "MM1 / Serving", "The served model of MM1.", VARIABLES, sections)


def _panel(metric: str, title: str, queries: tuple[Query, ...], **options: Any) -> Panel:
    """Return a panel that the definition of a metric explains."""
    return Panel(title=title, queries=queries, text=SERVING[metric].help, **options)


def _rate(series: str, by: str, selector: str = SERVERS) -> str:
    return f"sum by ({by}) (rate({series}{{{selector}}}[$__rate_interval]))"


def _percentiles(metric: str) -> tuple[Query, ...]:
    return tuple(Query(f"histogram_quantile({share}, {_rate(f'{metric}_bucket', 'le')})", f"p{share[2:]}") for share in SHARES)


def _overview() -> tuple[Panel, ...]:
    requests = f"sum(rate(mm1_requests_total{{{ANSWERS}}}[$__rate_interval]))"
    errors = f'sum(rate(mm1_requests_total{{{ANSWERS}, code=~"5.."}}[$__rate_interval]))'
    models = f"max by (model, digest, version) (mm1_model_info{{{SERVERS}}})"
    return (
        Panel(
            title="Servers",
            kind="stat",
            queries=(Query(f"sum(mm1_serving_ready{{{SERVERS}}})"),),
            width=4,
            height=4,
            text="Servers that take requests.",
        ),
        Panel(title="Requests per second", kind="stat", queries=(Query(requests),), unit="reqps", width=4, height=4),
        Panel(
            title="Errors",
            kind="stat",
            queries=(Query(f"({errors} or vector(0)) / {requests}"),),
            unit="percentunit",
            width=4,
            height=4,
            text="Share of requests for answers with a reply of 500 or above.",
        ),
        _panel("mm1_model_info", "Models", (Query(models),), kind="table", width=12, height=4),
    )


def _requests() -> tuple[Panel, ...]:
    first, whole, fetches = "mm1_time_to_first_token_seconds", "mm1_answer_seconds", "mm1_image_fetches"
    status = Query(_rate("mm1_requests_total", "code", ANSWERS), "{{code}}")
    errors = Query(_rate("mm1_request_errors_total", "status, error"), "{{status}} {{error}}")
    ended = tuple(Query(_rate(f"mm1_answers_{name}_total", "namespace"), name) for name in ("finished", "cancelled", "failed"))
    return (
        _panel("mm1_requests", "Requests by status", (status,), unit="reqps"),
        _panel("mm1_request_errors", "Errors by code", (errors,), unit="reqps"),
        Panel(title="Answers", queries=ended, unit="ops", text="Answers that ended, per second."),
        _panel(first, "Time to the first token", _percentiles(first), unit="s"),
        _panel(whole, "Time to the end of an answer", _percentiles(whole), unit="s"),
        _panel(fetches, "Fetched images", (Query(_rate(f"{fetches}_total", "result"), "{{result}}"),), unit="ops"),
    )


def _limited(metric: str) -> tuple[Query, ...]:
    """Return a number and its limit, of each server."""
    return Query(f"{metric}{{{SERVERS}}}", POD), Query(f"{metric}_limit{{{SERVERS}}}", f"{POD} limit")


def _engine() -> tuple[Panel, ...]:
    generated, prompts, cached = (
        _rate(f"mm1_{name}_tokens_total", "namespace") for name in ("generated", "prompt", "prefix_hit")
    )
    memory = Query(f'process_resident_memory_bytes{{{SERVERS}, job="mm1-serve"}}', POD)
    cache = Query(f"mm1_prefix_cache_bytes{{{SERVERS}}}", POD)
    return (
        _panel("mm1_answers_waiting", "Queue", _limited("mm1_answers_waiting")),
        _panel("mm1_answers_running", "Running answers", _limited("mm1_answers_running")),
        Panel(title="Tokens per second", queries=(Query(generated, "generated"), Query(prompts, "prompts"))),
        _panel(
            "mm1_prefix_hit_tokens",
            "Prompt tokens from the cache",
            (Query(f"{cached} / {prompts}", "share"),),
            unit="percentunit",
        ),
        _panel("mm1_prefix_cache_bytes", "Prefix cache", (cache,), unit="bytes"),
        Panel(title="Memory of the process", queries=(memory,), unit="bytes"),
    )
