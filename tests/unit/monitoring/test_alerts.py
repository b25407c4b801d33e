"""Which alerts fire in which situation, by promtool where it is installed; and that alerts and panels name what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.errors import SAVED, Outcome
from mm1.monitoring.metric import Metric
from mm1.monitoring.serving import SERVING
from mm1.monitoring.training import RUN_LABELS, STATES, TRAINING
from mm1_workflows.monitoring import alerts, dashboards
from tests.support.promql import names_of

PROMTOOL = shutil.which("promtool")
TARGET = {"namespace", "pod", "job", "instance", "container", "endpoint", "service"}
"""Labels that Prometheus adds to every series of a pod."""
LABELS = {
    series: TARGET | {*metric.labels, *extra} | ({"le"} if series.endswith("_bucket") else set())
    for table, extra in ((TRAINING, RUN_LABELS), (SERVING, ()))
    for metric in table.values()
    for series in metric.series
} | {"process_resident_memory_bytes": TARGET}
"""Series -> labels that it can have."""


def queries() -> dict[str, str]:
    found = {alert.name: alert.expression for alert in alerts.ALERTS}
    for name, make in dashboards.DASHBOARDS.items():
        board = make()
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                found[f"{name}: {panel['title']} {target['refId']}"] = target["expr"]
        for variable in board["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"]).groups()
            found[f"{name}: ${variable['name']}"] = f"sum by ({label}) ({metric})"
    return {name: re.sub(r"\$(__\w+|\{\w+\})", "5", re.sub(r"\[\$\w+\]", "[5m]", query)) for name, query in found.items()}


@pytest.mark.parametrize("name", queries())
def test_a_query_names_metrics_and_labels_that_exist(name: str) -> None:
    names = names_of(queries()[name])
    assert names.metrics, "no metric at all"
    for metric, labels in names.metrics.items():
        assert metric in LABELS, f"no metric {metric}"
        assert labels <= LABELS[metric], f"{metric} has no label {sorted(labels - LABELS[metric])}"
    assert names.grouped <= set().union(*(LABELS[metric] for metric in names.metrics))
    assert "namespace" in set().union(*names.metrics.values()) | names.grouped, "of all namespaces"


@pytest.mark.parametrize(
    ("query", "metrics", "grouped"),
    [
        ("mm1_a", {"mm1_a": set()}, set()),
        ('rate(mm1_a{b="{x}", c=~"y|z"}[5m]) > 0.5e3', {"mm1_a": {"b", "c"}}, set()),
        (
            "sum by (le, d) (mm1_a{}) / on (d) mm1_b and ignoring (e) mm1_c == 1",
            {"mm1_a": set(), "mm1_b": set(), "mm1_c": set()},
            {"le", "d", "e"},
        ),
        ("histogram_quantile(0.95, mm1_a offset 5m) or vector(1)", {"mm1_a": set()}, set()),
    ],
)  # fmt: skip
def test_names_of_a_query(query: str, metrics: dict[str, set[str]], grouped: set[str]) -> None:
    names = names_of(query)
    assert (names.metrics, names.grouped) == (metrics, grouped)


def test_every_placeholder_is_a_threshold_and_every_threshold_is_used() -> None:
    text = alerts.as_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == {*alerts.THRESHOLDS, "namespace"}
    assert "${" not in alerts.filled(text, {"namespace": "mm1"})


def test_outcomes_are_final_retried_or_saved() -> None:
    listed = [*alerts.FINAL.split("|"), *alerts.RETRIED.split("|"), "done", *(item.label for item in SAVED)]
    assert sorted(listed) == sorted(item.label for item in Outcome)


# -- situations -------------------------------------------------------------------------------------------------------

RUN = 'namespace="mm1", pod="p", run="r", task="pretrain", stage="pretrain", recipe="mm1_3b"'
MINUTES = 130
LIMITS = {"namespace": "mm1", "checkpointSeconds": 1800, "queuedSeconds": 1800, "pendingSeconds": 900}


def constant(value: float) -> str:
    return f"{value}x{MINUTES}"


def state(name: str) -> dict[str, str]:
    return {f'mm1_training_state{{{RUN}, state="{item}"}}': constant(float(item == name)) for item in STATES}


def run(name: str, more: str = "") -> str:
    return f"mm1_training_{name}{{{RUN}{more}}}"


def server(name: str, more: str = "", pod: str = "s") -> str:
    return f'mm1_{name}{{namespace="mm1", pod="{pod}", job="mm1-serve"{more}}}'


ROUTE = ', route="/v1/chat/completions", method="POST"'
HEALTHY = {
    **state("running"),
    run("step_age_seconds"): constant(5),
    run("step_seconds"): constant(2),
    run("checkpoint_age_seconds"): constant(600),
    run("loss"): constant(2),
    run("skipped_batches"): constant(3),
    run("spikes"): constant(50),
    run("store_failures"): constant(30),
    run("disk_free_ratio"): constant(0.4),
    run("phase_ratio", ', phase="data"'): constant(0.1),
    run("phase_ratio", ', phase="forward"'): constant(0.9),
    run("restarts_total", ', reason="network"'): constant(7),
    run("restarts_total", ', reason="preempted"'): f"0+1x{MINUTES}",
    run("relaunches_total", ', reason="network"'): constant(0),
    server("serving_ready"): constant(1),
    server("requests_total", f'{ROUTE}, code="200"'): f"0+600x{MINUTES}",
    server("requests_total", f'{ROUTE}, code="503"'): f"0+6x{MINUTES}",
    server("requests_total", f'{ROUTE}, code="429"'): f"0+6x{MINUTES}",
    server("answers_waiting"): constant(100),
    server("answers_waiting_limit"): constant(256),
    server("time_to_first_token_seconds_bucket", ', le="5.0"'): f"0+99x{MINUTES}",
    server("time_to_first_token_seconds_bucket", ', le="30.0"'): f"0+100x{MINUTES}",
    server("time_to_first_token_seconds_bucket", ', le="+Inf"'): f"0+100x{MINUTES}",
}
SITUATIONS: dict[str, tuple[dict[str, str], int, set[str]]] = {
    "all is well": ({}, 120, set()),
    "no step for 14 minutes": ({run("step_age_seconds"): f"0+60x{MINUTES}"}, 14, set()),
    "no step for 17 minutes": ({run("step_age_seconds"): f"0+60x{MINUTES}"}, 17, {"Mm1TrainingStuck"}),
    "a stuck run": ({**state("stuck"), run("step_age_seconds"): f"0+60x{MINUTES}"}, 17, {"Mm1TrainingStuck"}),
    "a long validation": ({**state("paused"), run("step_age_seconds"): f"0+60x{MINUTES}"}, 60, set()),
    "steps of a minute": ({run("step_seconds"): constant(60), run("step_age_seconds"): f"0+60x{MINUTES}"}, 19, set()),
    "no step of a minute for long": (
        {run("step_seconds"): constant(60), run("step_age_seconds"): f"0+60x{MINUTES}"},
        23,
        {"Mm1TrainingStuck"},
    ),
    "a checkpoint of half an hour": ({run("checkpoint_age_seconds"): f"0+60x{MINUTES}"}, 33, set()),
    "an older checkpoint": ({run("checkpoint_age_seconds"): f"0+60x{MINUTES}"}, 40, {"Mm1TrainingNoCheckpoint"}),
    "the loss falls": ({run("loss"): f"12-0.05x{MINUTES}"}, 120, set()),
    "the loss rises for a moment": ({run("loss"): "2x60 9x3 2x70"}, 64, set()),
    "the loss stays high": ({run("loss"): "2x60 9x70"}, 70, {"Mm1TrainingLossSpike"}),
    "a batch was skipped": ({run("skipped_batches"): "3x60 4x70"}, 70, {"Mm1TrainingBatchesSkipped"}),
    "a batch was skipped long ago": ({run("skipped_batches"): "3x60 4x70"}, 130, set()),
    "fewer batches after a resume": ({run("skipped_batches"): "3x60 0x70", run("spikes"): "50x60 0x70"}, 70, set()),
    "a few spikes": ({run("spikes"): "50x60 60x70"}, 70, set()),
    "many spikes": ({run("spikes"): "50x60 75x70"}, 70, {"Mm1TrainingBatchesSkipped"}),
    "a few failed requests": ({run("store_failures"): "30x60 40x70"}, 68, set()),
    "many failed requests": ({run("store_failures"): "30x60 60x70"}, 68, {"Mm1TrainingStoreFailures"}),
    "fewer failed requests after a restart": ({run("store_failures"): "30x60 0x70"}, 68, set()),
    "a full disk": ({run("disk_free_ratio"): "0.4x60 0.05x70"}, 70, {"Mm1TrainingDiskFull"}),
    "waits for data": ({run("phase_ratio", ', phase="data"'): constant(0.5)}, 40, {"Mm1TrainingWaitsForData"}),
    "a while in the queue": (state("queued"), 28, set()),
    "long in the queue": (state("queued"), 32, {"Mm1TrainingQueued"}),
    "pods are pending": (state("pending"), 20, {"Mm1TrainingPending"}),
    "ranks start": (state("starting"), 10, set()),
    "a restart": ({run("restarts_total", ', reason="network"'): "7x60 8x70"}, 70, set()),
    "three restarts": (
        {run("restarts_total", ', reason="network"'): "7x60 9x70", run("relaunches_total", ', reason="network"'): "0x60 1x70"},
        70,
        {"Mm1TrainingRestarts"},
    ),
    "three failed attempts": (
        {run("outcome", ', outcome="network"').replace('"p"', f'"{pod}"'): f"_x{pod}0 1x2" for pod in "123"},
        50,
        {"Mm1TrainingRestarts"},
    ),
    "diverged": ({run("outcome", ', outcome="diverged"'): "_x60 1x1"}, 70, {"Mm1TrainingFailed"}),
    "out of memory": ({run("outcome", ', outcome="out of memory"'): "_x60 1x1"}, 70, {"Mm1TrainingFailed"}),
    "diverged, long ago": ({run("outcome", ', outcome="diverged"'): "_x60 1x1"}, 90, set()),
    "done": ({run("outcome", ', outcome="done"'): "_x60 1x1"}, 62, set()),
    "preempted": ({run("outcome", ', outcome="preempted"'): "_x60 1x1"}, 62, set()),
    "no server": ({server("serving_ready"): "1x60 _x70"}, 75, {"Mm1ServingNotReady"}),
    "a server that is not ready": ({server("serving_ready"): "1x60 0x70"}, 70, {"Mm1ServingNotReady"}),
    "errors": ({server("requests_total", f'{ROUTE}, code="503"'): f"0+100x{MINUTES}"}, 30, {"Mm1ServingErrors"}),
    "a canary's errors": (
        {
            server("requests_total", f'{ROUTE}, code="200"', "mm1-serve-canary-a"): f"0+9x{MINUTES}",
            server("requests_total", f'{ROUTE}, code="500"', "mm1-serve-canary-a"): f"0+1x{MINUTES}",
        },
        30,
        {"Mm1ServingCanaryFails"},
    ),
    "a canary that starts": ({server("serving_ready", pod="mm1-serve-canary-a"): "_x20 0x3 1x100"}, 23, set()),
    "a canary that does not start": (
        {server("serving_ready", pod="mm1-serve-canary-a"): "_x20 0x9"},
        27,
        {"Mm1ServingCanaryFails"},
    ),
    "rejections": ({server("requests_total", f'{ROUTE}, code="429"'): f"0+100x{MINUTES}"}, 30, {"Mm1ServingRejections"}),
    "a full queue": ({server("answers_waiting"): constant(250)}, 10, {"Mm1ServingQueueFull"}),
    "slow": (
        {server("time_to_first_token_seconds_bucket", ', le="5.0"'): f"0+50x{MINUTES}"},
        30,
        {"Mm1ServingSlow"},
    ),
    "another namespace": (
        {name.replace('namespace="mm1"', 'namespace="other"'): values for name, values in state("queued").items()},
        40,
        set(),
    ),
}  # fmt: skip


def promtool_test(name: str, situations: list[str]) -> dict[str, Any]:
    """A test of promtool; each situation has a run of its own."""
    series: dict[str, str] = {}
    questions = []
    for situation in situations:
        changes, minute, firing = SITUATIONS[situation]
        own = {key.replace('run="r"', f'run="{situation}"'): values for key, values in (HEALTHY | changes).items()}
        series |= own
        selector = f', run="{situation}"' if len(situations) > 1 else ""
        question = f'count by (alertname) (ALERTS{{alertstate="firing"{selector}}})'
        samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)]
        questions.append({"expr": question, "eval_time": f"{minute}m", "exp_samples": samples})
    given = [{"series": key, "values": values} for key, values in series.items()]
    return {"name": name, "interval": "1m", "input_series": given, "promql_expr_test": questions}


def promtool_tests() -> list[dict[str, Any]]:
    """All trainings at once, which takes a tenth of the time; the server of each situation alone."""
    alone = [name for name, (changes, _, _) in SITUATIONS.items() if any('job="mm1-serve"' in key for key in changes)]
    trainings = [name for name in SITUATIONS if name not in alone]
    return [promtool_test("trainings", trainings), *(promtool_test(name, [name]) for name in alone)]


needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; Debian's package prometheus has it")


def promtool(folder: Path, *arguments: str) -> None:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries().values())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    (tmp_path / "rules.yaml").write_text(alerts.filled(alerts.as_text(), LIMITS))
    promtool(tmp_path, "check", "rules", "queries.yaml", "rules.yaml")


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(alerts.filled(alerts.as_text(), LIMITS))
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": promtool_tests()}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool(tmp_path, "test", "rules", "tests.yaml")


def test_every_alert_fires_in_a_situation() -> None:
    assert {name for _, _, firing in SITUATIONS.values() for name in firing} == {alert.name for alert in alerts.ALERTS}


def test_metrics_are_defined_once_and_described() -> None:
    for metric in [*TRAINING.values(), *SERVING.values()]:
        assert isinstance(metric, Metric) and metric.help.endswith("."), metric.name
        assert re.fullmatch(r"mm1_[a-z_]+", metric.name) and not metric.name.endswith("_total")
    assert not TRAINING.keys() & SERVING.keys()
