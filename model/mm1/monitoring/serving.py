"""Metrics of the server of a model, at ``/metrics``."""

from __future__ import annotations

from mm1.monitoring.metric import Metric, by_name

SERVING = by_name(
    (
        Metric(
            name="mm1_model_info",
            help="1; the labels name the served model: its name in requests, its digest or folder, and the version of MM1.",
            labels=("model", "digest", "version"),
        ),
        Metric(
            name="mm1_serving_ready",
            help="1 if the server takes requests, 0 if the engine has stopped or the server is shutting down.",
        ),
        Metric(
            name="mm1_requests",
            kind="counter",
            help="Requests by route, method and status; 499 if the client left before the reply.",
            unit="requests",
            labels=("route", "method", "code"),
        ),
        Metric(
            name="mm1_request_errors",
            kind="counter",
            help="Requests with an error reply, and streams that ended with an error, by status and code of the error.",
            unit="requests",
            labels=("status", "error"),
        ),
        Metric(
            name="mm1_time_to_first_token_seconds",
            kind="histogram",
            help="Time from queueing to the first token.",
            unit="seconds",
        ),
        Metric(name="mm1_answer_seconds", kind="histogram", help="Time from queueing to the end.", unit="seconds"),
        Metric(name="mm1_answers_running", help="Answers that are being generated."),
        Metric(name="mm1_answers_running_limit", help="Maximum number of answers generated at once."),
        Metric(name="mm1_answers_waiting", help="Answers in the queue."),
        Metric(name="mm1_answers_waiting_limit", help="Maximum length of the queue; further requests get 429."),
        Metric(name="mm1_answers_finished", kind="counter", help="Answers completed.", unit="answers"),
        Metric(name="mm1_answers_cancelled", kind="counter", help="Answers given up by their reader.", unit="answers"),
        Metric(name="mm1_answers_failed", kind="counter", help="Answers ended by an error.", unit="answers"),
        Metric(name="mm1_prompt_tokens", kind="counter", help="Tokens of prompts.", unit="tokens"),
        Metric(name="mm1_generated_tokens", kind="counter", help="Tokens generated.", unit="tokens"),
        Metric(name="mm1_prefix_hit_tokens", kind="counter", help="Tokens of prompts found in the cache.", unit="tokens"),
        Metric(name="mm1_prefix_cache_bytes", help="Size of the cache of processed prompts.", unit="bytes"),
        Metric(
            name="mm1_image_fetches",
            kind="counter",
            help="Images of allowed hosts that requests refer to, by result: fetched or failed.",
            unit="images",
            labels=("result",),
        ),
    )
)
