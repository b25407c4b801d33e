"""The message about a run: its text and fields, its way to a webhook, and that the webhook's address stays secret."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1.report import notification
from mm1.report.notification import message, post
from mm1.store.local import LocalStore
from mm1_components import report
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute

SECRET = "services-T0-B0-x9y8z7"
REASON = "1,200 new samples in 3 shards of captions since the mixture abc; reached: min_samples=1,000: 1,200"


class Webhook:
    """A server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status, self.wait_s = 200, 0.0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json" and self.path == f"/{SECRET}"
                webhook.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                time.sleep(webhook.wait_s)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.server.shutdown()
    webhook.server.server_close()


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def record(store: LocalStore, task: str, outcome: Outcome = Outcome.DONE, text: str = "", **outputs: Any) -> None:
    state = "done" if outcome is Outcome.DONE else "failed"
    fields = {"started": "2026-01-01T00:00:00Z", "state": state, "outcome": int(outcome), "message": text, "outputs": outputs}
    store.write_json(f"runs/r/{task}.json", {"run": "r", "task": task, "step": task, **fields})


def test_a_retraining_that_waits_says_why(store):
    record(store, "decide", decision="wait", reason="nothing new: 0 new samples")
    sent = message(store, "r", status="Succeeded", report="s3://b/blobs/x", link="https://argo/workflows/mm1/{run}")
    assert sent["text"] == "r: Succeeded\ndecide: wait: nothing new: 0 new samples\nhttps://argo/workflows/mm1/r"
    assert (sent["decision"], sent["promoted"], sent["failures"]) == ("wait", None, {})


def test_a_promotion_and_a_refusal_are_fields(store):
    record(store, "decide", decision="retrain", reason=REASON)
    record(store, "rollout", promoted=False, reason="the gate's decision is fail")
    sent = message(store, "r", status="Succeeded", report="s3://b/blobs/x")
    assert sent["promoted"] is False and sent["reason"] == REASON and sent["link"] == ""
    assert sent["text"].splitlines()[1:] == [
        f"decide: retrain: {REASON}",
        "rollout: not promoted: the gate's decision is fail",
        "s3://b/blobs/x",
    ]


def test_a_failure_has_its_class(store):
    record(store, "pretrain", Outcome.BUDGET, "stopped after step 3 of 9, checkpoint saved " + "x" * 1000)
    sent = message(store, "r", status="Failed", report="s3://b/blobs/x")
    assert sent["failures"]["pretrain"].startswith("budget: stopped after step 3 of 9")
    assert len(sent["text"]) < 600 and "pretrain: budget: stopped" in sent["text"]


def test_a_run_without_records_is_announced_too(store):
    assert message(store, "r", status="Failed", report="s3://b/x")["text"] == "r: Failed\ns3://b/x"


def started(store: LocalStore, tmp_path) -> Outcome:
    words = [f"--store={store.root}", "--run=r", "--status=Succeeded", f"--artifact.report.html={tmp_path / 'report.html'}"]
    return execute(report.STEP, build_parser(report.STEP).parse_args(words))


def test_the_step_posts_it_and_keeps_the_address_to_itself(store, tmp_path, webhook, monkeypatch, caplog, capfd):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MM1_NOTIFY_URL", webhook.url)
    monkeypatch.setenv("MM1_NOTIFY_LINK", "https://argo/{run}")
    record(store, "decide", decision="retrain", reason=REASON)
    assert started(store, tmp_path) is Outcome.DONE
    (sent,) = webhook.posted
    assert sent["run"] == "r" and sent["link"] == "https://argo/r" and sent["report"].startswith(f"{store.uri}/blobs/")
    assert store.read_json("runs/r/report.json")["facts"]["notified"] is True
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).decode(errors="replace")
    assert SECRET not in written + caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("fault", ["status", "refused", "malformed", "slow"])
def test_a_webhook_that_fails_is_a_warning_without_its_address(store, tmp_path, webhook, monkeypatch, caplog, capfd, fault):
    caplog.set_level("DEBUG")
    monkeypatch.setattr(notification, "TOTAL_S", 0.5)
    url = {"refused": f"http://127.0.0.1:1/{SECRET}", "malformed": f"ht tp://[{SECRET}"}.get(fault, webhook.url)
    webhook.status, webhook.wait_s = (500 if fault == "status" else 200), (2.0 if fault == "slow" else 0.0)
    monkeypatch.setenv("MM1_NOTIFY_URL", url)
    assert started(store, tmp_path) is Outcome.DONE
    assert "the notification was not delivered" in caplog.text
    assert store.read_json("runs/r/report.json")["facts"]["notified"] is False
    assert SECRET not in caplog.text + "".join(capfd.readouterr()) + json.dumps(store.read_json("runs/r/report.json"))


def test_without_a_webhook_nothing_is_posted(store, tmp_path, webhook, monkeypatch):
    monkeypatch.delenv("MM1_NOTIFY_URL", raising=False)
    assert started(store, tmp_path) is Outcome.DONE and webhook.posted == []
    assert "notified" not in store.read_json("runs/r/report.json")["facts"]


def test_a_message_that_was_accepted(webhook):
    assert post(webhook.url, {"text": "x"}) and webhook.posted == [{"text": "x"}]
