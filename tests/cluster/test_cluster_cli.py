"""The command line towards a cluster, on a real one: both ways in, logs that break, outcomes, stop, retry, clear errors."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.cluster import ROOT, Cluster
from tests.support.flaky_proxy import FlakyProxy
from tests.support.small_runs import COUNT, Step, workflow, write

RUN_LABEL = "workflows.argoproj.io/workflow"
TICK = "import time\nfor number in range(600):\n    print('tick', number, flush=True)\n    time.sleep(0.2)\n"
FORK = {"a": Step(COUNT), "b": Step(COUNT, ("a",)), "c": Step(COUNT, ("a",))}


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> str:
    """Argo Server's address."""
    address = cluster.environment.get("ARGO_SERVER", "")
    if not address:
        pytest.skip("no Argo Server: ARGO_SERVER is not set")
    secure = cluster.environment.get("ARGO_SECURE", "true") != "false"
    return address if "://" in address else f"{'https' if secure else 'http'}://{address}"


@pytest.fixture(params=["kubernetes", "argo-server"])
def way(request: pytest.FixtureRequest, cluster: Cluster) -> list[str]:
    """The options of each way to the cluster."""
    options = ["-n", cluster.namespace]
    return options if request.param == "kubernetes" else [*options, "--server", request.getfixturevalue("server")]


def start(cluster: Cluster, *argv: str, **environment: str) -> subprocess.Popen[str]:
    """Our command line in the background."""
    command = [sys.executable, "-u", "-m", "mm1_workflows.cli", *argv]
    given = cluster.environment | environment
    return subprocess.Popen(command, env=given, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module", autouse=True)
def without_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> subprocess.Popen[str]:
    """A run whose image is nowhere, followed while the other tests run: a minute in which there is nothing to do."""
    file = write(tmp_path_factory.mktemp("image") / "image.yaml", workflow({"a": Step(COUNT, image="localhost/not-there:1")}))
    return start(cluster, "submit", file, "-n", cluster.namespace, "--watch")


def name_in(said: str) -> str:
    """The name of the run that was submitted."""
    found = re.search(r"^(\S+) (?:submitted|was already submitted), namespace", said, re.MULTILINE)
    assert found, said
    return found[1]


def numbers(said: str, label: str) -> list[int]:
    """The numbered lines of a step's log."""
    return [int(found) for found in re.findall(rf"^\[{re.escape(label)}\] (?:line|tick) (\d+)$", said, re.MULTILINE)]


def pods(cluster: Cluster, name: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in cluster.items("pods", f"{RUN_LABEL}={name}")]


def test_a_run_is_followed_to_its_end_and_sent_once_per_key(cluster: Cluster, way: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "fork.yaml", workflow(FORK, at_exit="print('bye')"))
    key = ["--idempotency-key", uuid.uuid4().hex]
    done = cluster.mm1("submit", file, *way, *key, "--watch", "--logs", "-p", "lines=40")
    for label in ("a", "b", "c"):
        assert numbers(done.stdout, label) == list(range(40))
    assert "[farewell] bye" in done.stdout and f"{name_in(done.stdout)} succeeded" in done.stdout
    assert re.search(r"^\S+  b +running on \S+$", done.stdout, re.MULTILINE), done.stdout
    again = cluster.mm1("submit", file, *way, *key, "-p", "lines=40")
    assert name_in(again.stdout) == name_in(done.stdout) and "was already submitted" in again.stdout


def test_a_failed_step_gives_its_class_and_is_retried_as_a_new_run(cluster: Cluster, way: list[str], tmp_path: Path) -> None:
    steps = {"a": Step("print('sick', flush=True)\nraise SystemExit(84)", retries=1), "b": Step(COUNT, ("a",))}
    file = write(tmp_path / "sick.yaml", workflow(steps))
    done = cluster.mm1("submit", file, *way, "--watch", "--logs", check=False)
    name = name_in(done.stdout)
    assert done.returncode == 84 and f"{name} failed at a (network, exit code 84)" in done.stdout
    assert done.stdout.count("[a] sick") == 2 and "failed (attempt 2)" in done.stdout
    late = cluster.mm1("watch", name, *way, check=False)
    assert late.returncode == 84 and "b " in late.stdout
    shown = cluster.mm1("logs", name, *way, "--no-follow", "--task", "a").stdout
    assert shown.count("[a] sick") == 2
    unknown = cluster.mm1("logs", name, *way, "--task", "z", check=False)
    assert unknown.returncode == 80 and "has no task 'z'" in unknown.stderr
    again = cluster.mm1("retry", name, *way)
    assert name_in(again.stdout) != name
    cluster.mm1("stop", name_in(again.stdout), "--now", "-n", cluster.namespace)
    for state, run, other in (("failed", name, name_in(again.stdout)), ("stopped", name_in(again.stdout), name)):
        listed = cluster.mm1("runs", "--cluster", *way, "--state", state, "--since", "1h").stdout
        assert run in listed and other not in listed


@pytest.fixture
def flaky(cluster: Cluster, way: list[str], tmp_path: Path) -> Iterator[tuple[FlakyProxy, dict[str, str]]]:
    """A proxy before the way's server, which the options (changed in place) and environment lead to."""
    if "--server" in way:
        address = urlsplit(way[-1])
        with FlakyProxy(str(address.hostname), int(address.port or 443)) as proxy:
            way[-1] = f"{address.scheme}://127.0.0.1:{proxy.port}"
            yield proxy, {}
        return
    config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
    one = next(item["cluster"] for item in config["clusters"])
    address = urlsplit(one["server"])
    with FlakyProxy(str(address.hostname), int(address.port or 443)) as proxy:
        one |= {"server": f"https://127.0.0.1:{proxy.port}", "tls-server-name": str(address.hostname)}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        yield proxy, {"KUBECONFIG": str(tmp_path / "kubeconfig")}


def test_logs_survive_a_server_that_breaks_off_and_goes_away(
    cluster: Cluster, way: list[str], flaky: tuple[FlakyProxy, dict[str, str]], tmp_path: Path
) -> None:
    proxy, environment = flaky
    file = write(tmp_path / "long.yaml", workflow({"a": Step(COUNT)}))
    running = start(cluster, "submit", file, *way, "--watch", "--logs", "-p", "lines=400", **environment)
    said: list[str] = []
    assert running.stdout
    for line in running.stdout:
        said.append(line)
        if line.startswith("[a] line 20"):
            break
    trouble = threading.Thread(target=lambda: [proxy.drop(), time.sleep(2), proxy.drop(), time.sleep(2), proxy.go_away(5)])
    trouble.start()
    said += running.stdout.readlines()
    trouble.join()
    text = "".join(said)
    assert running.wait(120) == 0, text
    assert proxy.dropped > 0 and numbers(text, "a") == list(range(400))
    assert "retrying for up to" in text and "the cluster is reachable again" in text


def test_ctrl_c_detaches_and_stop_leaves_nothing(cluster: Cluster, way: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "tick.yaml", workflow({"a": Step(TICK)}, at_exit="print('bye')"))
    running = start(cluster, "submit", file, *way, "--logs")
    assert running.stdout
    said = ""
    for line in running.stdout:
        said += line
        if line.startswith("[a] tick 3"):
            break
    running.send_signal(signal.SIGINT)
    said += running.stdout.read()
    name = name_in(said)
    assert running.wait(30) == 130 and f"`mm1 watch {name} -n {cluster.namespace}" in said
    assert cluster.phase(name) == "Running"
    refused = cluster.mm1("retry", name, *way, check=False)
    assert refused.returncode == 80 and f"mm1 stop {name}" in refused.stderr
    stopped = cluster.mm1("stop", name, *way)
    assert "exit task still runs" in stopped.stdout
    if "--server" not in way:
        assert pods(cluster, name) == []
    ended = cluster.mm1("watch", name, *way, check=False)
    assert ended.returncode == 87 and "stopped by a user" in ended.stdout


def test_logs_outlive_their_pods_through_argo_server(cluster: Cluster, server: str, tmp_path: Path) -> None:
    document = workflow({"a": Step(COUNT)})
    document["spec"] |= {"archiveLogs": True, "podGC": {"strategy": "OnWorkflowCompletion", "deleteDelayDuration": "0s"}}
    file = write(tmp_path / "archived.yaml", document)
    here = ["-n", cluster.namespace]
    name = name_in(cluster.mm1("submit", file, *here, "--watch").stdout)
    cluster.wait("the end of its pods", lambda: not pods(cluster, name))
    assert "[a] (no log: its pod is gone; use --server" in cluster.mm1("logs", name, *here, "--no-follow").stdout
    assert numbers(cluster.mm1("logs", name, *here, "--no-follow", "--server", server).stdout, "a") == [0, 1, 2]


def test_stop_removes_what_a_supervisor_left(cluster: Cluster, tmp_path: Path) -> None:
    file = write(tmp_path / "tick.yaml", workflow({"a": Step(TICK)}))
    name = name_in(cluster.mm1("submit", file, "-n", cluster.namespace).stdout)
    labels = {"mm1.dev/run": name, "mm1.dev/task": "a", "mm1.dev/role": "rank"}
    template = Step(TICK).template("rank")["container"] | {"name": "main"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2, "containers": [template]},
    }
    job = {"parallelism": 2, "completions": 2, "completionMode": "Indexed", "backoffLimit": 0, "template": pod}
    spec = {"replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}]}
    jobset = cluster.object("jobset.x-k8s.io/v1alpha2", "JobSet", f"left-{name[-5:]}", spec=spec)
    jobset["metadata"]["labels"] = labels
    cluster.apply(jobset)
    ranks = f"mm1.dev/run={name}"
    cluster.wait("both ranks", lambda: [one["status"]["phase"] for one in cluster.items("pods", ranks)] == ["Running"] * 2)
    running = start(cluster, "logs", name, "-n", cluster.namespace)
    assert running.stdout
    seen = set()
    for line in running.stdout:
        seen.add(line.split("]")[0])
        if {"[a", "[a:1"} <= seen:
            break
    running.send_signal(signal.SIGINT)
    running.stdout.read()
    assert seen == {"[a", "[a:1"}, "node 0 of a JobSet is in the supervisor's log already"
    cluster.mm1("stop", name, "-n", cluster.namespace, "--now")
    assert cluster.items("jobsets", ranks) == [] and cluster.items("pods", ranks) == [] and pods(cluster, name) == []


def test_a_template_of_the_cluster_is_run_with_typed_parameters(cluster: Cluster, way: list[str]) -> None:
    cluster.apply(workflow({"a": Step(COUNT)}, kind="WorkflowTemplate", name="counting"))
    wrong = cluster.mm1("submit", "template/counting", *way, "-p", "lines=many", check=False)
    assert wrong.returncode == 80 and "expected an integer" in wrong.stderr
    missing = cluster.mm1("submit", "template/countin", *way, check=False)
    assert missing.returncode == 80 and "no WorkflowTemplate 'countin'; did you mean 'counting'" in missing.stderr
    done = cluster.mm1("submit", "template/counting", *way, "-p", "lines=5", "--logs")
    assert numbers(done.stdout, "a") == [0, 1, 2, 3, 4]


def test_what_is_wrong_is_said_in_two_lines(cluster: Cluster, way: list[str], tmp_path: Path) -> None:
    file = write(tmp_path / "fine.yaml", workflow({"a": Step(COUNT)}))
    rest = way[2:]
    token = cluster.kubectl("create", "token", "mm1-step").strip()

    def refused(*argv: str, token: str = "", file: str = file) -> str:
        environment = {"ARGO_TOKEN": f"Bearer {token}"} if token else {}
        if token and "--server" not in argv:
            config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
            config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
            (tmp_path / "other").write_text(yaml.safe_dump(config))
            environment = {"KUBECONFIG": str(tmp_path / "other")}
        tried = start(cluster, "submit", file, *argv, **environment)
        said, _ = tried.communicate(timeout=120)
        assert tried.returncode in (80, 84) and len(said.splitlines()) == 2, said  # the error, and where its class is explained
        return said

    assert "the namespace does not exist" in refused("-n", "nowhere-at-all", *rest)
    assert "may not create workflows in this namespace; it needs the Role" in refused(*way, token=token)
    assert "missing or expired" in refused(*way, token=f"{token}x")


def test_a_server_that_is_not_argo_is_named(cluster: Cluster, server: str, tmp_path: Path) -> None:
    file = write(tmp_path / "fine.yaml", workflow({"a": Step(COUNT)}))
    store = cluster.environment.get("S3_ENDPOINT", "")
    wrong = {store: "expected Argo Server", "http://127.0.0.1:9": "is unreachable"}
    wrong[server.replace("http://", "https://")] = "does not use TLS"
    for address, words in wrong.items():
        if address and address != server:
            done = cluster.mm1("submit", file, "-n", cluster.namespace, "--server", address, check=False)
            assert done.returncode in (80, 84) and words in done.stderr, done.stderr


def test_open_gives_the_address_of_the_page(cluster: Cluster, server: str, tmp_path: Path) -> None:
    file = write(tmp_path / "fine.yaml", workflow({"a": Step(COUNT)}))
    name = name_in(cluster.mm1("submit", file, "-n", cluster.namespace).stdout)
    shown = cluster.mm1("open", name, "-n", cluster.namespace, "--server", server).stdout
    assert shown.strip() == f"{server}/workflows/{cluster.namespace}/{name}"
    cluster.mm1("watch", name, "-n", cluster.namespace)


def test_an_image_that_cannot_be_had_ends_the_run_with_the_reason(
    cluster: Cluster, without_image: subprocess.Popen[str]
) -> None:
    said, _ = without_image.communicate(timeout=120)
    assert without_image.returncode == 80, said
    assert re.search(r"failed at a \(configuration, exit code 80\): (ErrImagePull|ImagePullBackOff)", said), said
    status = cluster.workflow(name_in(said))["status"]
    took = datetime.fromisoformat(status["finishedAt"]) - datetime.fromisoformat(status["startedAt"])
    assert "localhost/not-there:1" in said and status["phase"] == "Failed" and took < timedelta(minutes=2)
