"""A run on a cluster followed to its end, over a Kubernetes API whose workflow controller is the test."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import kube_config
from rich.console import Console

from mm1.errors import Outcome, Preempted
from mm1_workflows import cli
from mm1_workflows.cluster.following.follow import Following
from mm1_workflows.cluster.following.nodes import pod_name
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport
from mm1_workflows.display.screen import PlainDisplay
from tests.support.argo_objects import RUN, pod_node, retry_node, workflow
from tests.support.kube_api import KubeApi, Object, kube_api

RANK = {"mm1.dev/run": RUN, "mm1.dev/task": "train", "mm1.dev/role": "rank"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    with kube_api() as server:
        path = str(server.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KUBECONFIG", path)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", path)  # the client reads the variable once
        yield server


def show(api: KubeApi, *states: Object) -> None:
    """The run as it is at one look after the other; the last state stays."""
    left = list(states)

    def look(request: str) -> None:
        if request == f"GET workflows {RUN}" and left:
            api.put("workflows", left.pop(0))

    api.on_request = look


def follow(**options: Any) -> tuple[Any, list[str]]:
    """How the run ended, and the lines that were printed, without the time of day."""
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=200))
    options = {"logs": False, "poll_s": 0.001, **options}
    try:
        ending = Following(KubernetesTransport(), RUN, display, **options).to_the_end()
    finally:
        lines = [line.split("  ", 1)[-1] for line in out.getvalue().splitlines()]
    return ending, lines


def test_each_change_is_one_line_and_the_end_has_its_class(api: KubeApi) -> None:
    failed = pod_node("train", "Failed", code=84, message="main: Error (exit code 84)")
    backing_off = retry_node("train", [dict(failed)])
    backing_off[0]["phase"] = "Running"
    again = pod_node("train", "Running", host="node-2", progress="3/9")
    diverged = pod_node("train", "Failed", code=82, message="main: Error (exit code 82)", host="node-2", minute=4)
    show(
        api,
        workflow([pod_node("ingest", "Running")], tasks=("ingest", "train")),
        workflow([pod_node("ingest"), pod_node("train", "Pending", message="Unschedulable: 0/3")], tasks=("ingest", "train")),
        workflow([pod_node("ingest"), *backing_off], tasks=("ingest", "train")),
        workflow([pod_node("ingest"), *retry_node("train", [dict(failed), again])], tasks=("ingest", "train")),
        workflow([pod_node("ingest"), *retry_node("train", [dict(failed), diverged])], "Failed", tasks=("ingest", "train")),
    )
    ending, lines = follow()
    assert (ending.outcome, ending.where) == (Outcome.DIVERGED, "train")
    assert lines == [
        "ingest            running on node-1",
        "ingest            done after 1 min 00 s",
        "train             waiting: Unschedulable: 0/3",
        "train             retrying after attempt 1: network: main: Error (exit code 84)",
        "train             running (attempt 2) on node-2",
        "train             failed (attempt 2) after 4 min 00 s: diverged: main: Error (exit code 82)",
    ]


def waiting(message: str) -> Object:
    return workflow([pod_node("a", "Pending", message=message)])


FLAPPING = [
    waiting("ErrImagePull: registry.example.org/x: not found"),
    waiting("ImagePullBackOff: Back-off pulling image"),
] * 2


def test_an_image_that_is_tried_again_and_again_is_one_line_with_the_first_reason(api: KubeApi) -> None:
    show(api, *FLAPPING, workflow([pod_node("a")], "Succeeded"))
    ending, lines = follow()
    assert ending.outcome is Outcome.DONE
    assert [line for line in lines if "waiting" in line] == [
        "a                 waiting: ErrImagePull: registry.example.org/x: not found"
    ]


@pytest.mark.parametrize("reason", ["ErrImagePull", "CreateContainerConfigError", "ImageInspectError"])
def test_a_pod_that_waits_for_a_correction_ends_the_run(api: KubeApi, reason: str) -> None:
    looks = 0

    def look(request: str) -> None:
        nonlocal looks
        looks += request == f"GET workflows {RUN}"
        if looks == 1 and ("workflows", RUN) not in api.objects:
            api.put("workflows", waiting(f"{reason}: it is not there"))
        elif looks > 2:
            stopped = api.objects["workflows", RUN]["spec"].get("shutdown")
            api.put("workflows", workflow([pod_node("a", "Failed")], "Failed", shutdown=stopped))

    api.on_request = look
    ending, lines = follow(image_s=0)
    assert (ending.outcome, ending.where) == (Outcome.CONFIGURATION, "a")
    assert ending.message.startswith(f"{reason}: it is not there; check the profile's images")
    assert f"PATCH workflows {RUN}" in api.requests
    assert "a: its pod could not start within 0 s; stopping the run" in lines


def test_a_supervisor_that_runs_says_what_its_ranks_wait_for(api: KubeApi) -> None:
    status = {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "x"}}}]}
    api.put("jobsets", {"metadata": {"name": "train-0", "labels": RANK}, "spec": {}})
    api.put("pods", {"metadata": {"name": "train-0-0", "labels": RANK}, "status": {"phase": "Pending", **status}})
    show(api, workflow([pod_node("train", "Running")]), workflow([pod_node("train", "Failed", code=80)], "Failed"))
    ending, lines = follow(image_s=0)
    assert lines[0] == "train             running on node-1: node 0: ErrImagePull: x"
    assert ending.outcome is Outcome.CONFIGURATION and f"PATCH workflows {RUN}" not in api.requests, "it ends by itself"


def test_a_run_that_somebody_removes_is_preempted(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm1_workflows.cluster.following.patience.DOUBT_S", 0.0)
    show(api, workflow([pod_node("a", "Running")]))
    following = Following(KubernetesTransport(), RUN, PlainDisplay(Console(quiet=True)), logs=False, poll_s=0.0)
    following.patience.doubt_s = 0.0
    following._look()
    api.objects.clear()
    with pytest.raises(Preempted, match="the run was deleted"):
        following.to_the_end()


# -- commands ---------------------------------------------------------------------------------------------------------


def finished() -> Object:
    made = workflow([pod_node("ingest"), pod_node("train", "Failed", code=82, message="loss [is] nan")], "Failed")
    made["status"] |= {"startedAt": "2026-11-24T10:00:00Z", "finishedAt": "2026-11-24T10:02:00Z", "progress": "1/2"}
    return made


def test_runs_of_a_cluster_and_the_tasks_of_one(api: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.put("workflows", finished())
    assert cli.main(["runs", "--cluster"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split()[:6] == [RUN, "failed", "2026-11-24", "10:00:00", "2", "min"]
    assert cli.main(["runs", RUN, "--cluster"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["task", "state", "started", "(UTC)", "time", "host", "message"]
    assert rows[0].split()[:2] == ["ingest", "done"]
    assert rows[1].startswith("train") and "failed" in rows[1] and "node-1" in rows[1] and "diverged: loss [is] nan" in rows[1]
    assert cli.main(["runs", "--cluster", "--state", "waiting"]) == 0
    assert "no runs in namespace team" in capsys.readouterr().out
    assert cli.main(["runs", "--cluster", "--state", "cached"]) == 80


@pytest.mark.parametrize("change", [{"shutdown": "Stop"}, {"activeDeadlineSeconds": 0}])
def test_a_run_that_a_user_stopped_is_listed_as_stopped(
    api: KubeApi, capsys: pytest.CaptureFixture[str], change: Object
) -> None:
    run = finished()
    run["spec"] |= change
    api.put("workflows", run)
    assert cli.main(["runs", "--cluster", "--state", "stopped"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == [RUN, "stopped"]
    assert cli.main(["runs", "--cluster", "--state", "failed"]) == 0
    assert "no runs" in capsys.readouterr().out


def test_watch_of_a_finished_run_ends_with_its_class(api: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.put("workflows", finished())
    assert cli.main(["watch", RUN]) == Outcome.DIVERGED
    out = capsys.readouterr().out
    assert f"{RUN} failed at train (diverged, exit code 82): loss [is] nan" in out and f"`mm1 retry {RUN} -n team`" in out


def test_logs_carry_the_name_of_their_task(api: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    node = pod_node("ingest", template="step-ingest")
    run = workflow([node], "Succeeded", tasks=("ingest",))
    api.put("workflows", run)
    api.logs[pod_name(node, run)] = ["2026-11-24T10:00:00Z shard [1] of 9", "2026-11-24T10:00:01Z done"]
    for command in (["logs", RUN, "--no-follow"], ["logs", RUN]):
        assert cli.main(command) == 0
        assert capsys.readouterr().out.startswith("[ingest] shard [1] of 9\n[ingest] done\n")
    assert cli.main(["logs", RUN, "--task", "train"]) == 80


def test_stop_removes_pods_and_jobsets(api: KubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.put("workflows", finished())
    labels = {"workflows.argoproj.io/workflow": RUN}
    api.put("pods", {"metadata": {"name": "step", "labels": labels}, "status": {"phase": "Succeeded"}})
    api.put("jobsets", {"metadata": {"name": "train-0", "labels": RANK}, "spec": {}})
    api.put("pods", {"metadata": {"name": "train-0-0", "labels": RANK}, "status": {"phase": "Failed"}})
    assert cli.main(["stop", RUN]) == 0
    assert api.of("pods") == [] and api.of("jobsets") == [] and len(api.of("workflows")) == 1
    assert "deleted its pods and JobSets" in capsys.readouterr().out


def test_logs_end_with_their_reader(api: KubeApi, tmp_path: Path) -> None:
    node = pod_node("ingest", "Running", template="step-ingest")
    run = workflow([node], tasks=("ingest",))
    api.put("workflows", run)  # and does not end
    api.logs[pod_name(node, run)] = [f"2026-11-24T10:00:00Z line {number}" for number in range(5000)]
    script = f'{sys.executable} -m mm1_workflows.cli logs {RUN} 2>errors.txt | head -1; echo "exit ${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[ingest] line 0\nexit 141\n" and (tmp_path / "errors.txt").read_text() == ""


def test_following_goes_on_without_a_reader_to_the_right_exit_code(api: KubeApi, tmp_path: Path) -> None:
    ingest = workflow([pod_node("ingest", "Running")], tasks=("ingest", "train"))
    show(api, ingest, ingest, finished())  # the first look asks whether there is such a run
    command = f"{sys.executable} -m mm1_workflows.cli watch {RUN} 2>errors.txt"
    script = f'{command} | head -1; echo "exit ${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    line, code = done.stdout.splitlines()
    assert line.endswith("ingest            running on node-1")
    assert code == f"exit {int(Outcome.DIVERGED)}" and (tmp_path / "errors.txt").read_text() == ""
