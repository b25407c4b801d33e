"""A real Prometheus scrapes a training's metrics and a server; every panel of the dashboards then has data, or a reason."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from mm1_components.ranks.metrics_server import THIS_MACHINE, exposed
from mm1_components.ranks.training_metrics import TrainingMetrics
from mm1_workflows.monitoring import alerts, dashboards
from tests.support.tiny_mm1 import tiny_mm1
from tests.support.waiting import wait_until
from tests.unit.components.test_training_metrics import CONFIG, progress

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed; Debian's package prometheus has it")
VARIABLES = {"$namespace": "mm1", "$run": ".*", "$task": ".*", "$__rate_interval": "5s", "$__range": "1h"}
WITHOUT_DATA = {"serving: Fetched images": "the model fetches no image here"}
"""Panels without data, and why."""


def panels() -> dict[str, str]:
    """Panel and query -> the query, as Grafana sends it."""
    queries = {}
    for name, make in dashboards.DASHBOARDS.items():
        for panel in make()["panels"]:
            for target in panel.get("targets", ()):
                text = target["expr"]
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                queries[f"{name}: {panel['title']} {target['refId']}"] = re.sub(r"\$\w+", ".*", text)
    return queries


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **values: str) -> Any:
        """The data of an answer; None while the server starts."""
        try:
            with urllib.request.urlopen(f"{self.url}/{path}?{urllib.parse.urlencode(values)}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                return None
            raise AssertionError(f"{values}: {error.read().decode()}") from None
        except OSError:
            return None

    def query(self, text: str) -> list[Any]:
        """The result of a query at this moment."""
        return list((self.get("query", query=text) or {"result": []})["result"])


def ask(address: str, tokens: int) -> None:
    body = {"model": "mm1", "messages": [{"role": "user", "content": "what ?"}], "max_tokens": tokens}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except urllib.error.HTTPError as error:
        assert error.code in (400, 422)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after some scrapes of a training that was launched again and has failed, and of a server that was asked."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    engine = Engine(Generator(*tiny_mm1()))
    metrics = TrainingMetrics("run-1", "pretrain", CONFIG)
    with exposed(metrics, 0, THIS_MACHINE) as training, running(create_app(engine, ServeSettings())) as server:
        (folder / "rules.yaml").write_text(alerts.filled(alerts.as_text(), {"namespace": "mm1"}))
        (folder / "prometheus.yaml").write_text(configuration(training, server.removeprefix("http://")))
        command = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log.txt").open("w") as output:
            process = subprocess.Popen(
                [str(PROMETHEUS), *command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=output
            )
        try:
            metrics.take(progress())
            made = Prometheus(port)
            wait_until(lambda: len(made.query("up == 1")) == 2, "scrapes of both targets", 60)
            metrics.restarted(Outcome.NETWORK)
            metrics.relaunched(Outcome.OUT_OF_MEMORY)
            metrics.take(progress())
            for number in range(3):
                ask(server, tokens=-1 if number == 1 else 2)
                time.sleep(0.4)
            metrics.ended(Outcome.PREEMPTED)  # no failure: the exposition would wait for a scrape
            wait_until(lambda: made.query("mm1_training_outcome"), "a scrape of the end", 60)
            yield made
        finally:
            process.terminate()
            process.wait(10)
    engine.close()


def configuration(training: int, server: str) -> str:
    jobs = {"mm1-training": (f"127.0.0.1:{training}", "mm1-pretrain-0"), "mm1-serve": (server, "mm1-serve-0")}
    lines = ["global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}", "rule_files: [rules.yaml]"]
    lines += ["scrape_configs:"]
    for job, (target, pod) in jobs.items():
        lines.append(
            f"  - {{job_name: {job}, static_configs: [{{targets: ['{target}'], labels: {{namespace: mm1, pod: {pod}}}}}]}}"
        )
    return "\n".join(lines) + "\n"


def test_every_panel_has_data(prometheus: Prometheus) -> None:
    empty = {name for name, text in panels().items() if not prometheus.query(text)}
    empty = {name for name in empty if not prometheus.query(f"last_over_time(({panels()[name]})[30s:200ms])")}
    assert {name for name in empty if name[:-2] not in WITHOUT_DATA} == set()


def test_every_alert_is_evaluated(prometheus: Prometheus) -> None:
    def health() -> dict[str, str]:
        groups = prometheus.get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in health().values(), "the first evaluation", 30)
    assert health() == dict.fromkeys((alert.name for alert in alerts.ALERTS), "ok")
