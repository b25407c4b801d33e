"""Traces of runs, at a collector that decodes them: attempts, cache hits, failures, parts; collectors down or silent."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import BaseModel, Field

from mm1.errors import DataError, NetworkError, Outcome, Preempted
from mm1.manifests import Deployment
from mm1.store.open import open_store
from mm1_components import report
from mm1_components.ranks.training_parts import START_UP, TrainingParts
from mm1_components.wrapper import records, traces
from mm1_components.wrapper.arguments import ManifestUri, build_parser
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import execute
from tests.support.otlp_receiver import Receiver, receiver, values


class Inputs(BaseModel):
    fail: str = Field("", description="How to fail.")


class Outputs(BaseModel):
    manifest: ManifestUri = Field(description="What was made.")


ERRORS = {"network": NetworkError("the store is away"), "data": DataError("shard 7"), "stop": Preempted("stopped")}


def run(inputs: Inputs, context: Context) -> Outputs:
    if inputs.fail:
        raise ERRORS[inputs.fail]
    parts = TrainingParts()
    for line in ("hello", '{"mm1": "progress"}', '{"mm1": "pause", "doing": "validating"}', '{"mm1": "resume"}'):
        parts.take(line)
    context.note(tokens=12, tokens_per_s=3.5, gpu="H100")
    return Outputs(manifest=context.publish(Deployment(deployed=True, reason="x")))


STEP = Step(name="sample", inputs=Inputs, outputs=Outputs, run=run, summary="A sample.")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as made:
        monkeypatch.setenv(traces.ENDPOINTS[0], made.url)
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Outcome]:
    def start(*argv: str, step: Step[Any, Any] = STEP, run: str = "r1") -> Outcome:
        arguments = ["--store", str(tmp_path / "store"), "--run", run, "--work", str(tmp_path), *argv]
        return execute(step, build_parser(step).parse_args(arguments))

    return start


def test_one_trace_has_the_run_its_attempts_and_their_parts(collector, start, tmp_path) -> None:
    started = time.time_ns()
    assert start("--fail=network", "--task=train") is Outcome.NETWORK
    assert start("--task=train") is Outcome.DONE
    assert start("--task=again") is Outcome.DONE
    assert start("--status=Succeeded", step=report.STEP) is Outcome.DONE
    store = open_store(str(tmp_path / "store"))
    root = collector.spans["r1"][0]
    spans = [span for group in collector.spans.values() for span in group]
    assert {span.trace_id for span in spans} == {traces.trace_of(store.uri, "r1").to_bytes(16, "big")}
    assert not root.parent_span_id and root.status.code == Status.STATUS_CODE_OK
    failed, train = collector.spans["train"]
    tasks = [failed, train, *collector.spans["again"], *collector.spans["report"]]
    assert {span.parent_span_id for span in tasks} == {root.span_id}
    assert [values(span)["mm1.attempt"] for span in (failed, train)] == [1, 2]
    assert failed.status.code == Status.STATUS_CODE_ERROR and failed.status.message == "the store is away"
    assert values(failed)["mm1.outcome"] == "network"
    record = store.read_json("runs/r1/train.json")
    assert values(train) == {
        "mm1.run": "r1", "mm1.task": "train", "mm1.step": "sample", "mm1.attempt": 2, "mm1.cache_hit": False,
        "mm1.outcome": "done", "mm1.manifest": record["outputs"]["manifest"][-69:-5], "mm1.device": "H100",
        "mm1.tokens": 12, "mm1.tokens_per_second": 3.5,
    }  # fmt: skip
    assert [values(span)["mm1.cache_hit"] for span in collector.spans["again"]] == [True]
    parts: list[Span] = [*collector.spans[START_UP], *collector.spans["validating"]]
    assert [span.parent_span_id for span in parts] == [train.span_id] * 2
    assert root.start_time_unix_nano <= train.start_time_unix_nano <= parts[0].start_time_unix_nano
    assert started - 1_000_000 <= train.start_time_unix_nano <= train.end_time_unix_nano <= root.end_time_unix_nano
    assert collector.services == {"mm1"} and collector.requests == 4


@pytest.mark.parametrize(("status", "code"), [("Failed", Status.STATUS_CODE_ERROR), ("Stopped", Status.STATUS_CODE_OK)])
def test_the_span_of_a_run_has_its_status(collector, start, status: str, code: int) -> None:
    assert start("--fail=stop") is Outcome.PREEMPTED
    start(f"--status={status}", step=report.STEP)
    assert collector.spans["r1"][0].status.code == code and values(collector.spans["r1"][0])["mm1.status"] == status
    (stopped,) = collector.spans["sample"]
    assert stopped.status.code == Status.STATUS_CODE_OK and values(stopped)["mm1.outcome"] == "preempted", "saved: no error"


def test_runs_and_stores_have_traces_of_their_own() -> None:
    made = [(store, run) for store in ("s3://a", "s3://b") for run in ("x", "y")]
    assert len({traces.trace_of(*each) for each in made} | {traces.root_of(*each) for each in made}) == 8
    assert traces.trace_of("s3://a", "x") == traces.trace_of("s3://a", "x") < 1 << 128


def test_work_within_a_task_is_below_its_span(collector, tmp_path) -> None:
    store = open_store(str(tmp_path / "store"))
    outer, inner = (records.new_record("r1", task, "sample") for task in ("chain", "chain/one"))
    with records.recorded(store, outer), records.recorded(store, inner):
        pass
    traces.send()
    assert collector.spans["chain/one"][0].parent_span_id == collector.spans["chain"][0].span_id


def test_parts_are_limited_and_attempts_are_not(collector, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(traces, "MAX_SPANS", 3)
    with records.recorded(open_store(str(tmp_path / "store")), records.new_record("r1", "long", "sample")):
        for _ in range(5):
            traces.add_part("saving", time.time_ns())
    traces.send()
    assert (len(collector.spans["saving"]), len(collector.spans["long"])) == (3, 1)


def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def test_a_collector_that_is_down_or_refuses_changes_nothing(collector, start, monkeypatch, caplog) -> None:
    monkeypatch.setattr(traces.send, "__defaults__", (0.3,))
    collector.status = 400
    assert start() is Outcome.DONE
    monkeypatch.setenv(traces.ENDPOINTS[0], f"http://127.0.0.1:{closed_port()}")
    assert start("--fail=data") is Outcome.DATA
    monkeypatch.setenv(traces.ENDPOINTS[0], "no address")
    assert start() is Outcome.DONE
    warnings = [record.message for record in caplog.records if record.message.startswith("the trace is lost")]
    assert len(warnings) == 3 and not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_collector_that_never_answers_is_not_waited_for(collector, start, monkeypatch, caplog) -> None:
    monkeypatch.setattr(traces.send, "__defaults__", (0.2,))
    collector.silent = True
    started = time.monotonic()
    assert start() is Outcome.DONE
    assert time.monotonic() - started < 2, "bounded"
    assert "the trace is lost" in caplog.text


def test_nothing_is_imported_or_kept_without_a_collector(tmp_path) -> None:
    code = (
        "import sys\nfrom mm1_components.report import STEP\nfrom mm1_components.wrapper import traces\n"
        "from mm1_components.wrapper.arguments import build_parser\nfrom mm1_components.wrapper.execute import execute\n"
        f"execute(STEP, build_parser(STEP).parse_args(['--store', {str(tmp_path)!r}, '--run', 'r']))\n"
        "assert not traces._spans\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
